package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestRolesOfClients has two clients, of which one may have roles assumed, and
// places for one role at a time.
func TestRolesOfClients(t *testing.T) {
	b, dir, addr := newStub(t), tmpfs(t), freePort(t)
	conf, log := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "audit.log")
	write(t, conf, fmt.Sprintf(`
state_dir: %[1]s/state
audit: {path: %[1]s/audit.log}
endpoint:
  listen: "%[2]s"
  on_demand: {secrets: [prod/*], roles: ["%[3]sapp/*"], max_roles: 1, interval: 200ms}
  clients:
    - {name: plain, token_file: %[1]s/plain, secrets: ["*"]}
    - {name: roles, token_file: %[1]s/roles, secrets: [prod/db], roles: ["*"]}
`, dir, addr, rolePrefix))
	agent := secretsd(t, cleanEnv("AWS_ENDPOINT_URL="+b.URL), "run", "--config", conf)
	agent.until("msg=ready")
	const forbidden = "This secret is not among those that this client may read."
	ask := func(client, id, role string) (int, string) {
		t.Helper()
		return get(t, "http://"+addr+"/secretsmanager/get?secretId="+id+"&roleArn="+rolePrefix+role, content(filepath.Join(dir, client)))
	}
	for _, row := range []struct{ client, id, role string }{
		{"plain", "prod/db", "app/a"}, {"roles", "prod/db", "other"}, {"roles", "prod/api", "app/a"}, {"roles", "dev/db", "app/a"},
	} {
		if status, body := ask(row.client, row.id, row.role); status != http.StatusBadRequest || !strings.Contains(body, forbidden) {
			t.Errorf("%+v: %d %s", row, status, body)
		}
	}
	if calls := b.saw(); len(calls) != 0 {
		t.Errorf("the refusals cost %q", calls)
	}
	if status, body := ask("roles", "prod/db", "app/a"); status != 200 || !strings.Contains(body, "hunter2") {
		t.Errorf("with a role: %d %s", status, body)
	}
	// Nobody asks for the first any more, and it makes room.
	eventually(t, "another role is assumed", func() bool { status, _ := ask("roles", "prod/db", "app/b"); return status == 200 })
	eventually(t, "the first is assumed again", func() bool { status, _ := ask("roles", "prod/db", "app/a"); return status == 200 })
	if n := b.count("AssumeRole app/a"); n != 2 {
		t.Errorf("the role that was let go was assumed %d times", n)
	}
	if line := content(log); !strings.Contains(line, `"client":"roles"`) || !strings.Contains(line, `"role_arn":"`+rolePrefix+`app/a"`) {
		t.Errorf("the audit log holds\n%s", line)
	}
}
