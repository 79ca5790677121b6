package e2e

import "strings"

const (
	query    = "/secretsmanager/get"
	noSecret = query + "?secretId=MyTest"
	roleText = "invalid roleArn format, expected arn:<partition>:iam::<account>:role/<name>"
)

// nothing stands for no headers at all.
var nothing = []string{}

// doorRows are about who is let in, and to where.
func doorRows() []contractRow {
	bad, lost, forwarded := text(403, "Bad Token"), text(404, "Not found"), text(400, "Forwarded")
	return []contractRow{
		{id: "C1", send: "GET /ping", head: nothing, want: text(200, "healthy")},
		{id: "C2", send: "GET /ping", want: text(200, "healthy")},
		{id: "C3", send: "GET /ping?x=y", head: []string{"X-Forwarded-For: 1.2.3.4"}, want: text(200, "healthy")},
		{id: "C4", send: "GET /pong", want: lost},
		{id: "C5", send: "GET /pong", head: nothing, want: bad},
		{id: "C6", send: "GET /ping/", want: lost},
		{id: "C6 get", send: "GET " + query + "/", want: lost},
		{id: "C6 root", send: "GET /", want: lost},
		{id: "C6 case", send: "GET /PING", want: lost},
		{id: "C6 escaped", send: "GET /%70ing", want: lost},
		{id: "C6 two slashes", send: "GET //ping", want: lost},
		{id: "C26", send: "GET " + noSecret, head: nothing, want: bad},
		{id: "C26 path style", send: "GET /v1/MyTest", head: nothing, want: bad},
		{id: "C26 another word", send: "GET " + noSecret, head: []string{"X-Vault-Token: click slipers"}, want: bad},
		{id: "C26 longer", send: "GET " + noSecret, head: []string{tokenT + "x"}, want: bad},
		{id: "C26 empty", send: "GET " + noSecret, head: []string{"X-Aws-Parameters-Secrets-Token:"}, want: bad},
		{id: "C26 second value", send: "GET " + noSecret, head: []string{"X-Vault-Token: no", tokenV}, want: bad},
		{id: "C27", send: "GET " + noSecret, head: []string{"X-Aws-Parameters-Secrets-Token: no", tokenV}, want: current("MyTest")},
		{id: "C28", send: "GET " + noSecret, head: []string{tokenV, "X-Forwarded-For: 54.239.28.85"}, want: forwarded},
		{id: "C28 without a token", send: "GET " + noSecret, head: []string{"X-Forwarded-For: 54.239.28.85"}, want: forwarded},
		{id: "C28 empty", send: "GET " + noSecret, head: []string{tokenV, "X-Forwarded-For:"}, want: forwarded},
		{id: "C29b", send: "POST " + noSecret, head: []string{"Content-Length: 0"}, want: bad},
	}
}

// methodRows are C29, with every method on every route.
func methodRows() []contractRow {
	var rows []contractRow
	for method := range strings.FieldsSeq("POST PUT PATCH DELETE HEAD OPTIONS TRACE CONNECT") {
		for _, target := range []string{noSecret, "/v1/MyTest", "/ping"} {
			r := contractRow{id: "C29 " + method + " " + target, send: method + " " + target, head: []string{tokenT, "Content-Length: 0"}, want: text(405, "Not allowed")}
			if method == "HEAD" {
				r.want.body = ""
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// parameterRows are about what is wrong with a request's parameters.
func parameterRows() []contractRow {
	missing, missingID := text(400, "missing parameter secretId"), text(400, "missing secret ID")
	unknown, refresh := text(400, "unknown parameter: abc"), text(400, "invalid refreshNow value")
	rows := []contractRow{
		{id: "C7", send: "GET " + query, want: missing},
		{id: "C8", send: "GET " + query + "?secretId=", want: missing},
		{id: "C9", send: "GET " + query + "?versionStage=AWSPENDING", want: missing},
		{id: "C10", send: "GET " + noSecret + "&versionStage=AWSPENDING&abc=X", want: unknown},
		{id: "C11", send: "GET " + query + "?SecretId=MyTest", want: text(400, "unknown parameter: SecretId")},
		{id: "C12", send: "GET /v1/", want: missingID},
		{id: "C13", send: "GET /v1/?versionId=a&abc=1", want: missingID},
		{id: "C14", send: "GET /v1/MyTest?versionStage=AWSPENDING&abc=X", want: unknown},
		{id: "C15", send: "GET /v1/MyTest?secretId=x", want: text(400, "unknown parameter: secretId")},
		{id: "C16", send: "GET " + noSecret + "&refreshNow=123", want: refresh},
		{id: "C16 empty", send: "GET " + noSecret + "&refreshNow=", want: refresh},
		{id: "C17", send: "GET " + query + "?refreshNow=zzz", want: refresh},
	}
	for _, role := range []string{
		"notAnArn", "arn:aws:iam::123456789012:user/X", "arn:aws:iam::12345:role/X", "arn:aws:iam:us-east-1:123456789012:role/X",
		"arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a%22b",
	} {
		rows = append(rows, contractRow{id: "C67 " + role, send: "GET " + noSecret + "&roleArn=" + role, want: text(400, roleText)})
	}
	return rows
}

// valueRows are about what is asked for, and C61 and C62 about how it is written.
func valueRows() []contractRow {
	const pending = "AWSPENDING"
	rows := []contractRow{
		{id: "C18", send: "GET " + noSecret, want: current("MyTest")},
		{id: "C20", send: "GET " + noSecret + "&versionStage=AWSPENDING", want: j("MyTest", firstVersion, pending)},
		{id: "C21", send: "GET " + noSecret + "&versionId=11111", want: j("MyTest", "11111", "AWSCURRENT")},
		{id: "C22", send: "GET " + noSecret + "&versionStage=AWSPENDING&versionId=000000000000&refreshNow=true", want: j("MyTest", "000000000000", pending)},
		{id: "C23", send: "GET /v1/MyTest", head: []string{tokenV}, want: current("MyTest")},
		{id: "C24", send: "GET /v1/My/Test?versionStage=AWSPENDING", want: j("My/Test", firstVersion, pending)},
		{id: "C24 refreshNow", send: "GET /v1/My/Test?versionStage=AWSPENDING&refreshNow=0", want: j("My/Test", firstVersion, pending)},
		{id: "C24 versionId", send: "GET /v1/My/Test?versionId=11111", want: j("My/Test", "11111", "AWSCURRENT")},
		{id: "C24 all", send: "GET /v1/My/Test?versionStage=AWSPENDING&versionId=11111&refreshNow=1", want: j("My/Test", "11111", pending)},
		{id: "C25", send: "GET /v1/" + secretPrefix + "MyTest" + secretSuffix, want: current("MyTest")},
		{id: "C61", send: "GET " + query + "?secretId=a%2Bb", want: current("a+b")},
		{id: "C61 space", send: "GET " + query + "?secretId=a+b", want: current("a b"),
			without: []kind{configured}, why: "no secret can have such a name, so that none is configured"},
		{id: "C62", send: "GET " + query + "?secretId=a&secretId=b", want: current("b")},
	}
	for _, v := range []string{"1", "true", "TRUE", "0", "false", "FALSE"} {
		rows = append(rows, contractRow{id: "C19 " + v, send: "GET " + noSecret + "&refreshNow=" + v, want: current("MyTest")})
	}
	return rows
}

// faultRows are about what the backend refuses or fails at.
func faultRows() []contractRow {
	return []contractRow{
		{id: "C33", send: "GET " + query + "?secretId=KMSACCESSDENIEDTest", want: fault(400, "AccessDeniedException", kmsText)},
		{id: "C34", send: "GET " + query + "?secretId=OTHERERRORTest", want: fault(400, "InvalidSignatureException", signatureText)},
		{id: "C35", send: "GET " + query + "?secretId=NOTFOUNDx", want: fault(400, "ResourceNotFoundException", notFoundText)},
		{id: "C35 refreshNow", send: "GET " + query + "?secretId=NOTFOUNDx&refreshNow=true", want: fault(400, "ResourceNotFoundException", notFoundText)},
		{id: "C36", send: "GET " + query + "?secretId=UNAVAILABLE", want: fault(500, "InternalServiceError", "try later")},
		{id: "C37", send: "GET " + query + "?secretId=NOMESSAGE", want: fault(500, "InternalFailure", "")},
		{id: "C39", send: "GET " + query + "?secretId=GARBAGE", want: fault(500, "InternalFailure", "")},
	}
}
