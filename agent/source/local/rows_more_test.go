package local_test

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

func remove(id string) step { return step{op: "DeleteSecret", in: obj{"SecretId": id}} }

// daysAhead matches a date that many days from now, as the SDK shows it.
func daysAhead(days int) like {
	return func(got any) error {
		at, err := time.Parse(time.RFC3339, fmt.Sprint(got))
		if err != nil {
			return err
		}
		if off := time.Until(at) - time.Duration(days)*24*time.Hour; off.Abs() > time.Hour {
			return fmt.Errorf("got %v, want %d days from now", got, days)
		}
		return nil
	}
}

var deleteRows = []row{
	{name: "delete leaves 30 days", steps: []step{
		create("${name}", "s"),
		remove("${name}").wants(obj{"ARN": "${arn}", "Name": "${name}", "DeletionDate": daysAhead(30)}),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"DeletedDate": daysAhead(30), "VersionIdsToStages": present}},
	}},
	{name: "delete leaves the days asked for", steps: []step{
		create("${name}", "s"), remove("${name}").with("RecoveryWindowInDays", 7).wants(obj{"DeletionDate": daysAhead(7)}),
	}},
	{name: "the window is 7 to 30 days", steps: []step{
		create("${name}", "s"),
		refused(remove("${name}").with("RecoveryWindowInDays", 6), parameter, "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."),
		refused(remove("${name}").with("RecoveryWindowInDays", 31), parameter, "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."),
	}},
	{name: "a window and force are refused together", steps: []step{
		create("${name}", "s"),
		refused(remove("${name}").with("RecoveryWindowInDays", 7).with("ForceDeleteWithoutRecovery", true), parameter, "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays."),
	}},
	{name: "a secret marked for deletion is not read", steps: []step{
		create("${name}", "s"), remove("${name}"), refused(get("${name}", ""), request, marked),
	}},
	{name: "a secret marked for deletion is not written", steps: []step{
		create("${name}", "s"), remove("${name}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "t"}, code: request, message: marked},
		refused(remove("${name}"), request, marked),
	}},
	{name: "a secret marked for deletion gets no version, label or tag", moto: "writes all the same", steps: []step{
		createAs("${name}", "s", "${v1}"), remove("${name}"),
		refused(put("${name}", "t", "${v2}"), request, marked),
		refused(move("MINE", "", "${v1}"), request, marked),
		{op: "TagResource", in: obj{"SecretId": "${name}", "Tags": arr{obj{"Key": "k", "Value": "v"}}}, code: request, message: marked},
		{op: "UntagResource", in: obj{"SecretId": "${name}", "TagKeys": arr{"k"}}, code: request, message: marked},
	}},
	{name: "the name of a secret marked for deletion is taken", moto: "has another message", steps: []step{
		create("${name}", "s"), remove("${name}"),
		refused(create("${name}", "s"), request, "You can't create this secret because a secret with this name is already scheduled for deletion."),
	}},
	{name: "restore brings a secret back", steps: []step{
		create("${name}", "s"), remove("${name}"),
		{op: "RestoreSecret", in: obj{"SecretId": "${name}"}, want: obj{"ARN": "${arn}", "Name": "${name}"}},
		get("${name}", "s"),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, absent: []string{"DeletedDate"}},
	}},
	{name: "restore of a secret that is not deleted does nothing", steps: []step{
		create("${name}", "s"), {op: "RestoreSecret", in: obj{"SecretId": "${name}"}}, get("${name}", "s"),
	}},
	{name: "force removes a secret for good, and its name is free", steps: []step{
		create("${name}", "s"),
		remove("${name}").with("ForceDeleteWithoutRecovery", true).wants(obj{"ARN": "${arn}", "Name": "${name}", "DeletionDate": daysAhead(0)}),
		refused(get("${name}", ""), notFoundCode, noSecret),
		{op: "RestoreSecret", in: obj{"SecretId": "${name}"}, code: notFoundCode},
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "t"}},
		get("${name}", "t"),
		refused(get("${arn}", ""), notFoundCode, noSecret),
	}},
	{name: "force removes a secret that is marked", steps: []step{
		create("${name}", "s"), remove("${arn}"), remove("${arn}").with("ForceDeleteWithoutRecovery", true),
		{op: "DescribeSecret", in: obj{"SecretId": "${arn}"}, code: notFoundCode},
	}},
	{name: "force of no secret is answered as if there were one", steps: []step{
		remove("${name}").with("ForceDeleteWithoutRecovery", true).wants(obj{"ARN": present, "Name": "${name}", "DeletionDate": present}),
	}},
}

func tagged(tags ...string) step {
	var all arr
	for i := 0; i < len(tags); i += 2 {
		all = append(all, obj{"Key": tags[i], "Value": tags[i+1]})
	}
	return step{op: "TagResource", in: obj{"SecretId": "${name}", "Tags": all}}
}

func tags(want ...string) step {
	all := arr{}
	for i := 0; i < len(want); i += 2 {
		all = append(all, obj{"Key": want[i], "Value": want[i+1]})
	}
	return step{op: "DescribeSecret", raw: true, in: obj{"SecretId": "${name}"}, want: obj{"Tags": all}}
}

func manyTags(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("k", i), "v")
	}
	return all
}

var tagRows = []row{
	{name: "tags are added, set anew and removed", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}"}},
		tagged("a", "1"), tags("a", "1"), tagged("b", "2", "a", "3"), tags("a", "3", "b", "2"),
		{op: "UntagResource", in: obj{"SecretId": "${name}", "TagKeys": arr{"a", "none"}}}, tags("b", "2"),
		{op: "UntagResource", in: obj{"SecretId": "${name}", "TagKeys": arr{"b"}}}, tags(),
	}},
	{name: "tag keys have case", steps: []step{create("${name}", "s"), tagged("A", "1", "a", "2"), tags("A", "1", "a", "2")}},
	{name: "at most 50 tags", moto: "has no limit", steps: []step{
		create("${name}", "s"), tagged(manyTags(50)...), refused(tagged("one-more", "v"), parameter, ""), tagged("k0", "other"),
	}},
	{name: "tag keys of AWS are refused", moto: "takes them", steps: []step{create("${name}", "s"), refused(tagged("aws:x", "v"), parameter, "")}},
	{name: "a tag needs a key", moto: "HTTP 500", steps: []step{
		create("${name}", "s"), {op: "TagResource", raw: true, in: obj{"SecretId": "${name}", "Tags": arr{obj{"Value": "v"}}}, code: parameter},
	}},
	{name: "tag keys have at most 128 characters, values 256", moto: "has no limit", steps: []step{
		create("${name}", "s"), refused(tagged(strings.Repeat("k", 129), strings.Repeat("v", 257)), validation, ""),
	}},
}

func password(in obj, check func(string) error) step {
	return step{op: "GetRandomPassword", in: in, want: obj{"RandomPassword": like(func(got any) error { return check(got.(string)) })}}
}

const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// made checks a password's length and characters.
func made(length int, allowed string, each ...string) func(string) error {
	return func(p string) error {
		if len(p) != length {
			return fmt.Errorf("has %d characters, want %d", len(p), length)
		}
		if strings.Trim(p, allowed) != "" {
			return errors.New("has a character that it must not have")
		}
		for _, class := range each {
			if !strings.ContainsAny(p, class) {
				return fmt.Errorf("has none of %s", class)
			}
		}
		return nil
	}
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

var passwordRows = []row{
	{name: "a password has 32 characters of every type", steps: []step{password(obj{}, made(32, lower+upper+digits+punctuation, lower, upper, digits, punctuation))}},
	{name: "a password of 4 characters has one of every type", steps: []step{password(obj{"PasswordLength": 4}, made(4, lower+upper+digits+punctuation, lower, upper, digits, punctuation))}},
	{name: "a password leaves out characters", steps: []step{password(obj{"PasswordLength": 120, "ExcludeCharacters": "xyzDje@?!."}, made(120, strings.Map(func(r rune) rune {
		if strings.ContainsRune("xyzDje@?!.", r) {
			return -1
		}
		return r
	}, lower+upper+digits+punctuation)))}},
	{name: "a password leaves out types", steps: []step{
		password(obj{"ExcludeNumbers": true, "ExcludePunctuation": true}, made(32, lower+upper, lower, upper)),
		password(obj{"ExcludeUppercase": true, "ExcludeLowercase": true, "ExcludePunctuation": true}, made(32, digits)),
	}},
	{name: "a password may have spaces", steps: []step{password(obj{"PasswordLength": 4096, "IncludeSpace": true}, made(4096, lower+upper+digits+punctuation+" ", " "))}},
	{name: "a password of 4097 characters is refused", moto: "InvalidParameterValue", steps: []step{
		{op: "GetRandomPassword", in: obj{"PasswordLength": 4097}, code: validation, message: "1 validation error detected: Value '4097' at 'passwordLength' failed to satisfy constraint: Member must have value less than or equal to 4096"},
	}},
	{name: "a password needs room for its types", steps: []step{
		{op: "GetRandomPassword", in: obj{"PasswordLength": 3}, code: parameter, message: "Password length is too short based on the required types."},
	}},
	{name: "a short password of few types is made", moto: "wants 4 characters always", steps: []step{
		password(obj{"PasswordLength": 1, "ExcludeNumbers": true, "ExcludePunctuation": true, "ExcludeUppercase": true}, made(1, lower)),
		password(obj{"PasswordLength": 2, "RequireEachIncludedType": false}, made(2, lower+upper+digits+punctuation)),
	}},
	{name: "a password of no characters is refused", moto: "HTTP 500", steps: []step{
		{op: "GetRandomPassword", in: obj{"ExcludeNumbers": true, "ExcludePunctuation": true, "ExcludeUppercase": true, "ExcludeLowercase": true}, code: parameter},
	}},
}

var protocolRows = []row{
	{name: "an operation that is none", moto: "HTTP 404 without JSON", steps: []step{{op: "MakeCoffee", body: "{}", code: "UnknownOperationException"}}},
	{name: "rotation is not known here", moto: "rotates", steps: []step{create("${name}", "s"), {op: "RotateSecret", in: obj{"SecretId": "${name}"}, code: "UnknownOperationException"}}},
	{name: "a request that is no JSON", moto: "HTTP 500", steps: []step{{op: "GetSecretValue", body: `{"SecretId": `, code: "SerializationException"}}},
	{name: "a request of the wrong types", moto: "HTTP 500", steps: []step{
		{op: "GetSecretValue", body: `{"SecretId": 12345}`, code: "SerializationException", message: "NUMBER_VALUE can not be converted to string"},
		{op: "GetSecretValue", body: `[]`, code: "SerializationException"},
		{op: "CreateSecret", body: `{"Name": "x", "SecretBinary": "not base64!"}`, code: "SerializationException", message: "The request is not valid JSON."},
		{op: "CreateSecret", body: "{\"Name\": \"\xff\"}", code: "SerializationException"},
	}},
	{name: "a required member that is absent", moto: "HTTP 500", steps: []step{
		{op: "GetSecretValue", body: `{}`, code: validation, message: "1 validation error detected: Value null at 'secretId' failed to satisfy constraint: Member must not be null"},
		{op: "CreateSecret", body: `{"Name": null}`, code: validation},
		{op: "UpdateSecretVersionStage", body: `{"SecretId": "a"}`, code: validation},
		{op: "TagResource", body: `{"SecretId": "a"}`, code: validation},
		{op: "UntagResource", body: `{"SecretId": "a"}`, code: validation},
	}},
	{name: "members that are not known are ignored", steps: []step{create("${name}", "s"), {op: "GetSecretValue", body: `{"SecretId": "${name}", "Colour": {"a": [1]}}`, want: obj{"SecretString": "s"}}}},
	{name: "null is the same as absent", steps: []step{create("${name}", "s"), {op: "GetSecretValue", body: `{"SecretId": "${name}", "VersionId": null, "VersionStage": null}`, want: obj{"SecretString": "s"}}}},
	{name: "dates are numbers of seconds", steps: []step{
		create("${name}", "s"), {op: "GetSecretValue", raw: true, in: obj{"SecretId": "${name}"}, want: obj{"CreatedDate": like(func(got any) error {
			at, ok := got.(float64)
			if off := time.Since(time.UnixMilli(int64(at * 1000))); !ok || off.Abs() > time.Minute {
				return fmt.Errorf("got %v", got)
			}
			return nil
		})}},
	}},
}
