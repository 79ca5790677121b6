package e2e

import (
	"strings"
	"time"
)

// shortly is how long answers stay fresh in the rows that wait until they are
// not: the least that the peer can, and for ours less.
func shortly(s settings) settings {
	s.ids, s.fresh = []string{"MyTest"}, 300*time.Millisecond
	return s
}

// cacheRows are about what is remembered and for how long. The peer asks
// DescribeSecret whether a value that is too old is still the current one, while
// a client waits. Ours reads the value again in the background before it is too
// old, so that its backend sees Get where the peer's sees Describe.
func cacheRows() []contractRow {
	const ours = "a failed refresh takes no value away that AWS has given, up to max_stale: the answer says that it is stale, and AWS is asked again with a back-off"
	return append([]contractRow{
		{id: "C45", with: shortly(settings{}), run: unchanged},
		{id: "C46", with: shortly(settings{}), run: changed},
		{id: "C47", with: shortly(settings{}), run: func(s *subject) { failsLater(s, failing(500, "InternalServiceError", "try later"), true) }},
		{id: "C48", with: shortly(settings{noStale: true}), run: func(s *subject) { failsLater(s, failing(500, "InternalServiceError", "try later"), false) }},
		{id: "C49", why: ours, with: shortly(settings{}), run: func(s *subject) {
			failsLater(s, failing(400, "AccessDeniedException", "not any more"), s.kind != peer)
		}},
		{id: "C50", why: ours, with: shortly(settings{}), run: func(s *subject) {
			failsLater(s, failing(400, "ThrottlingException", "Rate exceeded"), s.kind != peer)
		}},
		{id: "C51", with: shortly(settings{}), run: changedUnreadably},
		{id: "C53", with: shortly(settings{zeroTTL: true}), run: changedAtOnce},
	}, keptRows()...)
}

// again asks for MyTest until the backend is asked once more.
func (s *subject) again() {
	s.t.Helper()
	before := len(s.history())
	eventually(s.t, "the backend is asked again", func() bool { s.get("MyTest"); return len(s.history()) > before })
}

// becomes asks for a secret until the answer is want.
func (s *subject) becomes(secretAndMore string, want answer) {
	s.t.Helper()
	var got answer
	for range 2000 { // more than patience holds
		if got = s.get(secretAndMore); got.body == want.body || strings.Contains(want.body, "__type") && got.status == want.status {
			break
		}
		<-time.After(15 * time.Millisecond)
	}
	s.compare(secretAndMore, got, want)
}

func unchanged(s *subject) {
	s.expect("MyTest", current("MyTest"))
	s.again()
	s.expect("MyTest", current("MyTest"))
	if s.kind == peer {
		s.asked("Get MyTest", "Describe "+secretPrefix+"MyTest"+secretSuffix)
	} else if s.count("Get MyTest") != len(s.history()) {
		s.t.Errorf("the backend was asked %q", s.saw())
	}
}

func changed(s *subject) {
	s.expect("MyTest", current("MyTest"))
	s.move("MyTest")
	s.becomes("MyTest", j("MyTest", nextVersion, "AWSCURRENT"))
	if s.kind == peer {
		s.asked("Get MyTest", "Describe "+secretPrefix+"MyTest"+secretSuffix, "Get MyTest")
	}
}

// failsLater has everything fail after the first read.
func failsLater(s *subject, failure *stubAnswer, served bool) {
	s.expect("MyTest", current("MyTest"))
	s.answers(func(string, string, int) *stubAnswer { return failure })
	if !served {
		s.becomes("MyTest", text(failure.status, failure.body))
		return
	}
	s.again()
	if s.kind == peer {
		s.expect("MyTest", current("MyTest"))
		s.asked("Get MyTest", "Describe "+secretPrefix+"MyTest"+secretSuffix)
		return
	}
	eventually(s.t, "the answer says that it is stale", func() bool {
		got := s.get("MyTest")
		s.compare("MyTest", got, current("MyTest"))
		return got.header.Get("X-Secretsd-Stale") == "true" && got.header.Get("Age") != ""
	})
}

// changedUnreadably fails every read of the new version.
func changedUnreadably(s *subject) {
	s.expect("MyTest", current("MyTest"))
	s.move("MyTest")
	s.answers(func(op, _ string, _ int) *stubAnswer {
		if op == "Get" {
			return failing(500, "InternalServiceError", "try later")
		}
		return nil
	})
	eventually(s.t, "the new version is read in vain", func() bool {
		s.expect("MyTest", current("MyTest"))
		return s.count("Get MyTest") > 1
	})
	s.expect("MyTest", current("MyTest"))
}

func changedAtOnce(s *subject) {
	s.expect("MyTest", current("MyTest"))
	s.expect("MyTest", current("MyTest"))
	if s.kind == peer {
		s.asked("Get MyTest", "Describe "+secretPrefix+"MyTest"+secretSuffix)
	}
	s.move("MyTest")
	s.becomes("MyTest", j("MyTest", nextVersion, "AWSCURRENT")) // ours has no TTL of 0; its least is 100ms
	if s.kind == peer {
		s.asked("Describe "+secretPrefix+"MyTest"+secretSuffix, "Get MyTest")
	}
}

// keptRows are about what is read at all.
func keptRows() []contractRow {
	return []contractRow{
		{id: "C35 calls", with: settings{ids: []string{"NOTFOUNDx"}}, run: notFoundTwice,
			why: "ours remembers for two seconds what does not exist, and with refreshNow asks all the same"},
		{id: "C43, C44", with: settings{ids: []string{"REFRESHNOWx"}}, run: refreshed},
		{id: "C52", with: settings{ids: []string{"MyTest"}}, run: refreshedInVain},
		{id: "C54", with: settings{entries: 1}, run: func(s *subject) {
			for _, name := range []string{"a", "b", "a"} {
				s.expect(name, current(name))
			}
			s.asked("Get a", "Get b", "Get a")
		}, without: []kind{configured}, why: "what is configured is kept whatever there is of it"},
		{id: "C55", with: settings{ids: []string{"MyTest"}}, run: nameAndARN,
			why: "a configured secret is one, whatever it is called"},
		{id: "C60", with: settings{ids: []string{"MyTest"}}, run: func(s *subject) {
			s.expect("MyTest", current("MyTest"))
			s.move("MyTest")
			s.expect("MyTest&versionStage=AWSCURRENT&refreshNow=true", j("MyTest", nextVersion, "AWSCURRENT"))
			s.expect("MyTest&versionId="+firstVersion, j("MyTest", firstVersion, "AWSPREVIOUS"))
		}},
		{id: "C71", with: settings{prefetch: []string{"MyTest", "My/Test"}}, run: prefetched,
			without: []kind{onDemand}, why: "what ours reads before it is asked is what is configured"},
	}
}

func notFoundTwice(s *subject) {
	absent := fault(400, "ResourceNotFoundException", notFoundText)
	for _, more := range []string{"", "", "&refreshNow=true"} {
		s.expect("NOTFOUNDx"+more, absent)
	}
	want := []string{"Get NOTFOUNDx", "Get NOTFOUNDx", "Get NOTFOUNDx"}
	if s.kind != peer {
		want = want[:2]
	}
	s.asked(want...)
}

func refreshed(s *subject) {
	numbered := func(n string) answer {
		return value("REFRESHNOWx", firstVersion, "AWSCURRENT", `"SecretString":"value `+n+`"`)
	}
	s.expect("REFRESHNOWx", numbered("1"))
	s.expect("REFRESHNOWx", numbered("1"))
	s.expect("REFRESHNOWx&refreshNow=true", numbered("2"))
	s.expect("REFRESHNOWx", numbered("2"))
	s.asked("Get REFRESHNOWx", "Get REFRESHNOWx")
}

func refreshedInVain(s *subject) {
	s.expect("MyTest", current("MyTest"))
	s.answers(func(string, string, int) *stubAnswer {
		return failing(400, "InvalidRequestException", "marked for deletion")
	})
	s.expect("MyTest&refreshNow=true", fault(400, "InvalidRequestException", "marked for deletion"))
	s.expect("MyTest", current("MyTest"))
	s.asked("Get MyTest", "Get MyTest")
}

func nameAndARN(s *subject) {
	const arn = secretPrefix + "MyTest" + secretSuffix
	s.expect("MyTest", current("MyTest"))
	s.expect(arn, current("MyTest"))
	if s.kind == configured {
		s.asked("Get MyTest")
		return
	}
	s.asked("Get MyTest", "Get "+arn)
}

func prefetched(s *subject) {
	if s.kind == peer {
		s.process.until("Pre-fetch complete")
	}
	s.expect("MyTest", current("MyTest"))
	s.expect("My/Test", current("My/Test"))
	s.asked("Batch My/Test MyTest")
}
