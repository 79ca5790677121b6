package source_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"secretsd/agent/secret"
	"secretsd/agent/source"
)

// wantOptionError fails the test unless err says part and has a hint.
func wantOptionError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("got %v, want an error with %q", err, part)
	}
	if hint := hintOf(err); hint == "" {
		t.Errorf("%v has no hint", err)
	}
}

// hintOf finds a Hint in err's tree, as the command line does.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

func TestOptionsThatNeverWork(t *testing.T) {
	config := func(text string) map[string]string { return map[string]string{"AWS_CONFIG_FILE": "\x00" + text} }
	for _, tc := range []struct {
		name string
		o    source.Options
		env  map[string]string
		want string
	}{
		{"plain http", source.Options{Endpoint: "http://sm.example.com"}, nil, "plain http"},
		{"plain http by address", source.Options{Endpoint: "http://10.0.0.1:4566"}, nil, "plain http"},
		{"name that begins as loopback", source.Options{Endpoint: "http://localhost.example.com"}, nil, "plain http"},
		{"plain http from the environment", source.Options{}, map[string]string{"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://sm.example.com"}, "plain http"},
		{"plain http for all services", source.Options{}, map[string]string{"AWS_ENDPOINT_URL": "http://sm.example.com"}, "plain http"},
		{"plain http for STS", source.Options{}, map[string]string{"AWS_ENDPOINT_URL_STS": "http://sts.example.com"}, "plain http"},
		{"plain http in the profile", source.Options{}, config("[default]\nendpoint_url = http://sm.example.com\n"), "plain http"},
		{"plain http in the profile's services", source.Options{}, config("[default]\nservices = s\n[services s]\nsecrets_manager =\n  endpoint_url = http://sm.example.com\n"), "plain http"},
		{"no URL", source.Options{Endpoint: "sm.example.com:443"}, nil, "not an http or https URL"},
		{"password in the URL", source.Options{Endpoint: "https://user:CANARY@sm.example.com"}, nil, "has a user"},
		{"password in a broken URL", source.Options{Endpoint: "https://user:CANARY@sm.exa mple.com:x"}, nil, "not an http or https URL"},
		{"Region with a dot", source.Options{Region: "evil.example.com"}, nil, "Region's name"},
		{"Region with a dot from the environment", source.Options{}, map[string]string{"AWS_REGION": "evil.example.com"}, "Region's name"},
		{"role", source.Options{RoleARN: "reader"}, nil, "ARN of a role"},
		{"FIPS and an endpoint", source.Options{FIPS: true, Endpoint: "https://localhost"}, nil, "FIPS"},
		{"FIPS and an endpoint from the environment", source.Options{}, map[string]string{"AWS_USE_FIPS_ENDPOINT": "true", "AWS_ENDPOINT_URL": "https://localhost"}, "FIPS"},
		{"dual stack and an endpoint", source.Options{Endpoint: "https://localhost"}, map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "dual-stack"},
		{"word where a truth value belongs", source.Options{}, map[string]string{"AWS_USE_FIPS_ENDPOINT": "maybe"}, "AWS_USE_FIPS_ENDPOINT"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			isolate(t)
			for k, v := range tc.env {
				if text, ok := strings.CutPrefix(v, "\x00"); ok {
					v = write(t, "config", text)
				}
				t.Setenv(k, v)
			}
			if tc.o.Region == "" && tc.env["AWS_REGION"] == "" {
				tc.o.Region = region
			}
			_, err := source.New(t.Context(), tc.o)
			wantOptionError(t, err, tc.want)
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("a password was shown: %v", err)
			}
		})
	}
}

func TestEndpointsThatWork(t *testing.T) {
	b := &backend{}
	url := serve(t, b)
	for _, tc := range []struct {
		name string
		o    source.Options
		env  map[string]string
	}{
		{"option", source.Options{Endpoint: url}, map[string]string{"AWS_ENDPOINT_URL_SECRETS_MANAGER": "https://127.0.0.1:1"}},
		{"localhost", source.Options{Endpoint: strings.Replace(url, "127.0.0.1", "localhost", 1)}, nil},
		{"of the service", source.Options{}, map[string]string{"AWS_ENDPOINT_URL_SECRETS_MANAGER": url, "AWS_ENDPOINT_URL": "https://127.0.0.1:1"}},
		{"of all services", source.Options{}, map[string]string{"AWS_ENDPOINT_URL": url}},
		{"option though others are ignored", source.Options{Endpoint: url}, map[string]string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": "http://sm.example.com"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			isolate(t)
			t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			tc.o.Region = region
			wantAll(t, open(t, tc.o).Fetch(t.Context(), names(2)))
			if batches, _ := b.count(); batches != 1 {
				t.Errorf("%d batch calls arrived", batches)
			}
		})
	}
}

func TestResolveRegion(t *testing.T) {
	full := secret.Current(arn("ap-south-1", home, "x"))
	inProfile := map[string]string{"AWS_CONFIG_FILE": "\x00[default]\nregion = eu-north-1\n"}
	with := func(ref secret.Ref, region string) secret.Ref {
		ref.Region = region
		return ref
	}
	for _, tc := range []struct {
		name   string
		option string
		env    map[string]string
		ref    secret.Ref
		want   string // "" for an error
	}{
		{"ref", "eu-west-1", nil, with(full, "us-west-2"), "us-west-2"},
		{"ARN", "eu-west-1", nil, full, "ap-south-1"},
		{"partial ARN", "eu-west-1", nil, secret.Current("arn:aws:secretsmanager:us-east-1:1:secret:x"), "us-east-1"},
		{"option", "eu-west-1", map[string]string{"AWS_REGION": "eu-west-2"}, secret.Current("x"), "eu-west-1"},
		{"AWS_REGION", "", map[string]string{"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, secret.Current("x"), "eu-west-2"},
		{"AWS_DEFAULT_REGION", "", map[string]string{"AWS_DEFAULT_REGION": "eu-west-3"}, secret.Current("x"), "eu-west-3"},
		{"profile", "", inProfile, secret.Current("x"), "eu-north-1"},
		{"none", "", nil, secret.Current("x"), ""},
		{"none but the ARN's", "", nil, full, "ap-south-1"},
		{"profile that is missing", "", map[string]string{"AWS_PROFILE": "none"}, secret.Current("x"), ""},
		{"with a dot", "eu-west-1", nil, secret.Current("arn:aws:secretsmanager:evil.example.com:1:secret:x"), ""},
		{"with a slash", "eu-west-1", nil, with(full, "evil/"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			isolate(t)
			for k, v := range tc.env {
				if text, ok := strings.CutPrefix(v, "\x00"); ok {
					v = write(t, "config", text)
				}
				t.Setenv(k, v)
			}
			s := open(t, source.Options{Region: tc.option})
			got, err := s.ResolveRegion(tc.ref)
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Fatalf("got %q and %v, want %q", got, err, tc.want)
			}
			if err == nil {
				return
			}
			if secret.KindOf(err) != secret.Invalid || hintOf(err) == "" {
				t.Errorf("got %v with hint %q", err, hintOf(err))
			}
			if e := failure(t, fetchOne(t.Context(), s, tc.ref)); e.Kind != secret.Invalid {
				t.Errorf("Fetch: got %v", e)
			}
		})
	}
}

func TestEachRegionHasItsOwnClient(t *testing.T) {
	b := &backend{}
	s := overLoopback(t, b, func(o *source.Options) { o.Region = "" }) // none but the refs' own
	var refs []secret.Ref
	for _, r := range []string{"eu-west-1", "us-east-2"} {
		for i := range 3 {
			refs = append(refs, secret.Current(arn(r, home, fmt.Sprint("s", i))))
		}
	}
	wantAll(t, s.Fetch(t.Context(), refs))
	seen := map[string]int{}
	for _, r := range b.seen() {
		seen[r.Region] += len(r.SecretIdList)
		for _, id := range r.SecretIdList {
			if !strings.Contains(id, ":"+r.Region+":") {
				t.Errorf("%s was read in %s", id, r.Region)
			}
		}
	}
	if len(seen) != 2 || seen["eu-west-1"] != 3 || seen["us-east-2"] != 3 {
		t.Errorf("ids by Region: %v", seen)
	}
}

// TestMoreRegionsThanClients asks for more Regions than clients are kept, which
// an application may do through the endpoint.
func TestMoreRegionsThanClients(t *testing.T) {
	b := &backend{}
	s := inMemory(t, b)
	for range 2 {
		var refs []secret.Ref
		for i := range 150 {
			refs = append(refs, secret.Ref{ID: "x", Region: fmt.Sprintf("xx-test-%d", i)})
		}
		wantAll(t, s.Fetch(t.Context(), refs))
	}
	if _, gets := b.count(); gets != 300 {
		t.Errorf("%d reads", gets)
	}
}

// TestInProcessIgnoresTheEnvironment: the local service is reached whatever is
// set for AWS, and roles of a production configuration are not assumed.
func TestInProcessIgnoresTheEnvironment(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_ENDPOINT_URL", "http://sm.example.com")
	t.Setenv("AWS_PROFILE", "none")
	t.Setenv("AWS_USE_FIPS_ENDPOINT", "true")
	b := &backend{}
	s := open(t, source.Options{RoleARN: role, Transport: inProcess{handler: b}})
	wantAll(t, s.Fetch(t.Context(), names(2)))
	if batches, _ := b.count(); batches != 1 {
		t.Errorf("%d batch calls arrived", batches)
	}
}

func TestUserAgentNamesSecretsd(t *testing.T) {
	b := &backend{}
	s := overLoopback(t, b, func(o *source.Options) { o.Version = "1.2.3" })
	t.Setenv("AWS_SDK_UA_APP_ID", "my-team")
	wantAll(t, s.Fetch(t.Context(), names(1)))
	if ua := b.seen()[0].UserAgent; !strings.Contains(ua, "secretsd/1.2.3") || !strings.Contains(ua, "app/my-team") {
		t.Errorf("user agent %q", ua)
	}
}
