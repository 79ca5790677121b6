package e2e

import (
	"fmt"
	"strings"
)

// limitRows are about how much is taken, and about a backend that is not there.
func limitRows() []contractRow {
	const head = "a head may have 20 KiB in all; no client of the agent has as much to say"
	return []contractRow{
		{id: "C30, C31, C32", with: settings{ids: []string{"SleepyTest_6"}, maxConn: 1}, run: overTheLimit},
		{id: "C63 headers", with: settings{ids: []string{"MyTest"}}, run: func(s *subject) {
			// With Host and the token there are 101.
			s.refuses(431, "GET /ping", append(many(99), tokenT)...)
			s.compare("100 headers", s.ask("GET /ping", append(many(98), tokenT)...), text(200, "healthy"))
		}},
		{id: "C63 head", why: head, with: settings{ids: []string{"MyTest"}}, run: func(s *subject) {
			long := "X-Long: " + strings.Repeat("x", 400<<10)
			if s.kind == peer {
				long = "X-Long: " + strings.Repeat("x", 700<<10) // of 321 KiB at least, as it comes in
			}
			s.refuses(431, "GET /ping", long)
		}},
		{id: "C63 target", why: head + ", so that the status is the head's", with: settings{ids: []string{"MyTest"}}, run: func(s *subject) {
			status := 431
			if s.kind == peer {
				status = 414
			}
			s.refuses(status, "GET /ping?"+strings.Repeat("x", 65_535))
		}},
		{id: "C38", with: settings{ids: []string{"MyTest"}, backend: closedBackend}, run: func(s *subject) {
			s.expect("MyTest", fault(502, "ConnectionError", "Read Error"))
		}},
		{id: "C40", with: settings{ids: []string{"MyTest"}, backend: deafBackend}, run: func(s *subject) {
			s.expect("MyTest", fault(504, "TimeoutError", "Timeout"))
		}},
		{id: "C41", with: settings{ids: []string{"MyTest"}, withoutCredentials: true}, run: func(s *subject) {
			s.expect("MyTest", fault(500, "InternalFailure", ""))
			s.asked()
		}},
		{id: "C42", held: "sinks/endpoint.TestAReadThatHangsIsAnswered",
			why: "ours answers 504 after 15s; the peer closes the connection without a word after 61s"},
		{id: "C72", held: "e2e.TestContractStarts"},
	}
}

func many(n int) []string {
	headers := make([]string, n)
	for i := range headers {
		headers[i] = fmt.Sprintf("X-Header-%d: x", i)
	}
	return headers
}

// refuses sends a request that is too large, and wants its status and the
// connection closed.
func (s *subject) refuses(status int, request string, headers ...string) {
	s.t.Helper()
	got := s.ask(request, headers...)
	if got.status != status || !got.closed || s.kind == peer && got.body != "" {
		s.t.Errorf("%.30s: %d %q, closed %v, want %d", request, got.status, got.body, got.closed, status)
	}
}

// overTheLimit has one request in flight, and no more may be.
func overTheLimit(s *subject) {
	first := make(chan answer, 1)
	go func() {
		for {
			got := s.get("SleepyTest_6")
			if got.status != 429 { // the connection that looked whether it listens may still count
				first <- got
				return
			}
		}
	}()
	eventually(s.t, "the first request waits for the backend", s.sleeping)
	// The configured secret sleeps before anybody asks for it.
	eventually(s.t, "the limit is reached", func() bool { return s.get("MyTest").status == 429 })
	s.expect("MyTest", text(429, "Connection limit exceeded"))
	s.compare("/ping", s.ask("GET /ping"), text(200, "healthy"))
	close(s.freed)
	s.compare("the first", <-first, current("SleepyTest_6"))
	s.becomes("SleepyTest_6", current("SleepyTest_6")) // as soon as its connection has gone
}

// textRows are about what a value looks like.
func textRows() []contractRow {
	asked := func(id, name string, want answer) contractRow {
		return contractRow{id: id, with: settings{ids: []string{name}}, run: func(s *subject) { s.expect(name, want) }}
	}
	undated := current("undated")
	undated.body = strings.Replace(undated.body, `"1569534789.046"`, "null", 1)
	return []contractRow{
		asked("C56", "binary", value("binary", firstVersion, "AWSCURRENT", `"SecretBinary":"AAECA//+/Q=="`)),
		asked("C57", "large-60000", value("large-60000", firstVersion, "AWSCURRENT", `"SecretString":"`+large("large-60000")+`"`)),
		asked("C57 the most", "large-65536", value("large-65536", firstVersion, "AWSCURRENT", `"SecretString":"`+large("large-65536")+`"`)),
		asked("C58", "escaped", value("escaped", firstVersion, "AWSCURRENT", `"SecretString":"<>&\"\\\n`+"\u2028🔑"+`\u0001"`)),
		asked("C59", "undated", undated),
	}
}

// nameRows are about what prefix and headers are called.
func nameRows() []contractRow {
	return []contractRow{
		{id: "C64", with: settings{ids: []string{"MyTest", "/MyTest"}, prefix: "/other"}, run: func(s *subject) {
			s.compare("a slash", s.ask("GET /other/MyTest", tokenT), current("/MyTest"))
			s.compare("none", s.ask("GET /otherMyTest", tokenT), current("MyTest"))
			s.compare("the default", s.ask("GET /v1/MyTest", tokenT), text(404, "Not found"))
		}},
		{id: "C65", with: settings{ids: []string{"MyTest"}, headers: []string{"X-Foo"}}, run: func(s *subject) {
			s.compare("the default", s.ask("GET /v1/MyTest", tokenT), text(403, "Bad Token"))
			s.compare("the header", s.ask("GET /v1/MyTest", "X-Foo: "+contractToken), current("MyTest"))
		}},
	}
}

const (
	rolePrefix = "arn:aws:iam::123456789012:role/"
	testRole   = rolePrefix + "TestRole"
	deniedRole = rolePrefix + "DeniedRole"
)

// roleRows are about roleArn.
func roleRows() []contractRow {
	return []contractRow{
		{id: "C66", with: settings{ids: []string{"MyTest"}, role: testRole}, run: withRole},
		{id: "C68", with: settings{ids: []string{"MyTest"}, role: deniedRole}, run: func(s *subject) {
			s.expect("MyTest&roleArn="+deniedRole, fault(403, "AccessDeniedException", "Failed to create caching client from role: "+deniedRole))
			s.asked("AssumeRole DeniedRole")
		}},
		{id: "C68 not reached", with: settings{ids: []string{"MyTest"}, role: testRole, backend: closedBackend}, run: func(s *subject) {
			want := fault(502, "ConnectionError", "Read Error")
			if s.kind == peer {
				want = fault(403, "AccessDeniedException", "Failed to create caching client from role: "+testRole)
			}
			s.expect("MyTest&roleArn="+testRole, want)
		}, why: "an outage of STS is no refusal: clients give up at the one, and try again after the other"},
		{id: "C69", with: settings{maxRoles: 2}, run: tooManyRoles, without: []kind{configured},
			why: "roles that the configuration names are not counted. How ours lets others go is held by agent.TestRolesAreCappedAndGivenUp"},
		{id: "C70", with: settings{ids: []string{"REFRESHNOWx"}, role: testRole, twice: true}, run: separateRole},
	}
}

// withRole also holds what the backend saw. The peer asks once more who it is.
func withRole(s *subject) {
	s.expect("MyTest&roleArn="+testRole, current("MyTest"))
	s.compare("path style", s.ask("GET /v1/MyTest?roleArn="+testRole, tokenT), current("MyTest"))
	want := []string{"AssumeRole TestRole", "Get MyTest as TestRole"}
	if s.kind == peer {
		want = []string{"AssumeRole TestRole", "GetCallerIdentity as TestRole", "AssumeRole TestRole", "Get MyTest as TestRole"}
	}
	s.asked(want...)
}

func tooManyRoles(s *subject) {
	for range 2 {
		for _, role := range []string{"First", "Second"} {
			s.expect("MyTest&roleArn="+rolePrefix+role, current("MyTest"))
		}
		s.expect("MyTest&roleArn="+rolePrefix+"Third", fault(400, "MaxRolesExceeded",
			"The maximum number of assumed roles (2) has been reached. Unable to assume the following role to create a client: "+rolePrefix+"Third"))
	}
	if n := s.count("AssumeRole Third"); n != 0 {
		s.t.Errorf("the third role was assumed %d times", n)
	}
}

// separateRole asks for one id with and without a role. Each read of it gives
// another value.
func separateRole(s *subject) {
	with, without := s.get("REFRESHNOWx&roleArn="+testRole), s.get("REFRESHNOWx")
	if with.status != 200 || without.status != 200 || with.body == without.body {
		s.t.Errorf("with the role %d %s, without %d %s", with.status, with.body, without.status, without.body)
	}
	s.expect("REFRESHNOWx&roleArn="+testRole, with)
	s.expect("REFRESHNOWx", without)
	if a, b := s.count("Get REFRESHNOWx as TestRole"), s.count("Get REFRESHNOWx"); a != 1 || b != 1 {
		s.t.Errorf("%d reads with the role, %d without", a, b)
	}
}
