package endpoint_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"secretsd/agent/secret"
	"secretsd/sinks/endpoint"
)

// TestRefusalsAreAlike asks for what exists and is somebody else's, and for what
// does not exist. Both go the same way, which takes the same time; that the reader
// would give the first away changes nothing.
func TestRefusalsAreAlike(t *testing.T) {
	var asked atomic.Int64
	reader := readerFunc(func(_ context.Context, q endpoint.Query) (endpoint.Answer, error) {
		asked.Add(1)
		if q.ID == "others" {
			return endpoint.Answer{Version: version(q.ID, defaultVersion, secret.StageCurrent)}, nil
		}
		return endpoint.Answer{}, endpoint.ErrForbidden
	})
	o := endpoint.Options{Clients: []endpoint.Client{clientWith(t, "web", tokenA, "db")}}
	s := start(t, o, reader, entry(version("db", defaultVersion, secret.StageCurrent)), entry(version("others", defaultVersion, secret.StageCurrent)))
	for i, id := range []string{"others", "nowhere"} {
		if got := do(t, s, "GET", "/v1/"+id, "X-Vault-Token: "+tokenA); got.status != 400 || got.body != forbidden {
			t.Errorf("%s: %d %s", id, got.status, got.body)
		}
		for _, op := range []string{"GetSecretValue", "DescribeSecret"} {
			got := post(t, s, call{op: op, body: `{"SecretId":"` + id + `"}`, id: "web", key: tokenA})
			if got.status != 400 || codeIn(got) != "AccessDeniedException" {
				t.Errorf("%s %s: %d %s", op, id, got.status, got.body)
			}
		}
		batch := post(t, s, call{op: "BatchGetSecretValue", body: `{"SecretIdList":["` + id + `"]}`, id: "web", key: tokenA})
		if strings.Contains(batch.body, "hunter2") || !strings.Contains(batch.body, "AccessDeniedException") {
			t.Errorf("a batch with %s: %d %s", id, batch.status, batch.body)
		}
		if want := int64(4 * (i + 1)); asked.Load() != want {
			t.Errorf("with %s the reader was asked %d times, want %d", id, asked.Load(), want)
		}
	}
}
