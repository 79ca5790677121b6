package local_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var rows = slices.Concat(createRows, readRows, versionRows, stageRows, batchRows, listRows, filterRows, deleteRows, tagRows, passwordRows, protocolRows)

func create(name, value string) step {
	return step{op: "CreateSecret", in: obj{"Name": name, "SecretString": value}, save: map[string]string{"arn": "ARN", "v": "VersionId"}}
}

// createAs creates a secret whose first version has that id.
func createAs(name, value, version string) step {
	return step{op: "CreateSecret", in: obj{"Name": name, "SecretString": value, "ClientRequestToken": version}, save: map[string]string{"arn": "ARN"}}
}

func put(name, value, version string, stages ...string) step {
	in := obj{"SecretId": name, "SecretString": value, "ClientRequestToken": version}
	if stages != nil {
		in["VersionStages"] = stages
	}
	return step{op: "PutSecretValue", in: in}
}

// move is UpdateSecretVersionStage; from and to may be empty.
func move(stage, from, to string) step {
	in := obj{"SecretId": "${name}", "VersionStage": stage}
	if from != "" {
		in["RemoveFromVersionId"] = from
	}
	if to != "" {
		in["MoveToVersionId"] = to
	}
	return step{op: "UpdateSecretVersionStage", in: in}
}

// get reads AWSCURRENT without naming it and expects a text.
func get(id, value string) step {
	return step{op: "GetSecretValue", in: obj{"SecretId": id}, want: obj{"SecretString": value}}
}

// stages expects the labels of all versions that have any.
func stages(want obj) step {
	return step{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"VersionIdsToStages": exact(want)}}
}

func refused(s step, code, message string) step {
	s.code, s.message, s.want, s.absent, s.save = code, message, nil, nil, nil
	return s
}

const (
	noSecret     = "Secrets Manager can't find the specified secret."
	marked       = "You can't perform this operation on the secret because it was marked for deletion."
	noToken      = "You must provide a ClientRequestToken value. We recommend a UUID-type value."
	badName      = "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!"
	tokenTaken   = "You can't use ClientRequestToken ${v1} because that value is already in use for a version of secret ${arn}."
	notFoundCode = "ResourceNotFoundException"
	parameter    = "InvalidParameterException"
	request      = "InvalidRequestException"
	validation   = "ValidationException"
	exists       = "ResourceExistsException"
)

var (
	tooLong = strings.Repeat("x", 65537)
	longest = strings.Repeat("x", 65536)
)

func matches(pattern string) like {
	re := regexp.MustCompile(pattern)
	return func(got any) error {
		if !re.MatchString(fmt.Sprint(got)) {
			return fmt.Errorf("got %v, want %s", got, pattern)
		}
		return nil
	}
}

var createRows = []row{
	{name: "create answers ARN with six random characters, name and version", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}"},
			want: obj{"ARN": matches(`^arn:aws:secretsmanager:us-east-1:\d{12}:secret:t-\w+-[A-Za-z0-9]{6}$`), "Name": "${name}", "VersionId": "${v1}"}},
	}},
	{name: "create again with another token is ResourceExists", steps: []step{
		create("${name}", "s"),
		refused(create("${name}", "s"), exists, "The operation failed because the secret ${name} already exists."),
	}},
	{name: "create again with the same token and value is the same request", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}"}, want: obj{"ARN": "${arn}", "Name": "${name}", "VersionId": "${v1}"}},
	}},
	{name: "create again with the same token and another value is ResourceExists", steps: []step{
		createAs("${name}", "s", "${v1}"),
		refused(createAs("${name}", "other", "${v1}"), exists, tokenTaken),
	}},
	{name: "create without a value makes no version", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}"}, want: obj{"ARN": present, "Name": "${name}"}, absent: []string{"VersionId"}},
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"Name": "${name}"}, absent: []string{"VersionIdsToStages"}},
		refused(get("${name}", ""), notFoundCode, "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "s"}, want: obj{"VersionStages": set{"AWSCURRENT"}}},
		get("${name}", "s"),
	}},
	{name: "create with both a string and a binary value is refused", moto: "keeps both", steps: []step{
		refused(step{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "SecretBinary": "AAE="}}, parameter, "You can't specify both a binary secret value and a string secret value in the same secret."),
	}},
	{name: "create with characters a name must not have is refused", moto: "checks no names", steps: []step{
		refused(create("Inv Name", "s"), validation, badName),
	}},
	{name: "create with replicas is refused here", moto: "replicates", steps: []step{
		refused(step{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "AddReplicaRegions": arr{obj{"Region": "eu-west-1"}}}}, request, ""),
	}},
	{name: "a name may have every character of the rule", steps: []step{
		create("${name}/_+=.@-Name", "s"),
		get("${name}/_+=.@-Name", "s"),
	}},
	{name: "a value needs a token, which the SDK makes", moto: "makes one itself", steps: []step{
		refused(step{op: "CreateSecret", raw: true, in: obj{"Name": "${name}", "SecretString": "s"}}, request, noToken),
		refused(step{op: "PutSecretValue", raw: true, in: obj{"SecretId": "${name}", "SecretString": "s"}}, request, noToken),
		refused(step{op: "UpdateSecret", raw: true, in: obj{"SecretId": "${name}", "SecretString": "s"}}, request, noToken),
	}},
	{name: "a token has 32 to 64 characters", moto: "InvalidParameterException", steps: []step{
		refused(createAs("${name}", "s", "short"), validation, "1 validation error detected: Value 'short' at 'clientRequestToken' failed to satisfy constraint: Member must have length greater than or equal to 32"),
	}},
	{name: "a value of 65,536 bytes is allowed", steps: []step{create("${name}", longest), get("${name}", longest)}},
	{name: "a value of 65,537 bytes is refused", moto: "has no limit", steps: []step{
		refused(create("${name}", tooLong), validation, "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to 65536"),
	}},
	{name: "an empty string is refused", moto: "makes a secret without a version", steps: []step{
		refused(create("${name}", ""), validation, "1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have length greater than or equal to 1"),
	}},
	{name: "all broken constraints are told at once", moto: "checks no lengths", steps: []step{
		refused(step{op: "CreateSecret", in: obj{"Name": strings.Repeat("n", 513), "Description": strings.Repeat("d", 2049)}}, validation,
			"2 validation errors detected: Value at 'name' failed to satisfy constraint: Member must have length less than or equal to 512; Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 2048"),
	}},
}

var readRows = []row{
	{name: "get answers all members", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}"}, absent: []string{"SecretBinary"},
			want: obj{"ARN": "${arn}", "Name": "${name}", "VersionId": "${v1}", "SecretString": "s", "VersionStages": set{"AWSCURRENT"}, "CreatedDate": present}},
	}},
	{name: "get by name, ARN and partial ARN", steps: []step{
		create("${name}", "s"), get("${name}", "s"), get("${arn}", "s"), get("${arn-}", "s"),
	}},
	{name: "a name with the suffix is not found", steps: []step{
		create("${name}", "s"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}-AbCdEf"}, code: notFoundCode, message: noSecret},
	}},
	{name: "a partial ARN of a name that ends like an ARN is not found", moto: "finds it", steps: []step{
		create("${name}-a1b2c3", "s"), get("${name}-a1b2c3", "s"), get("${arn}", "s"),
		refused(get("${arn-}", ""), notFoundCode, noSecret),
	}},
	{name: "partial ARNs of names that end nearly like an ARN are found", steps: []step{
		create("${name}-a1b2", "s"), get("${arn-}", "s"),
		create("${name}-a1b2c3-", "t"), get("${arn-}", "t"),
	}},
	{name: "a whole ARN with another suffix is not found", steps: []step{
		create("${name}", "s"),
		refused(get("${arn-}-AAAAAA", ""), notFoundCode, noSecret),
	}},
	{name: "an ARN of another account or Region is not found", steps: []step{
		create("${name}", "s"),
		refused(get("arn:aws:secretsmanager:us-east-1:000000000001:secret:${name}-AbCdEf", ""), notFoundCode, noSecret),
		refused(get("arn:aws:secretsmanager:eu-west-1:123456789012:secret:${name}-AbCdEf", ""), notFoundCode, noSecret),
	}},
	{name: "not found has status 400", moto: "404", steps: []step{
		{op: "GetSecretValue", in: obj{"SecretId": "${name}"}, code: notFoundCode, status: 400, message: noSecret},
	}},
	{name: "every operation on a secret checks the characters of its id", moto: "not found instead", steps: []step{
		refused(get(" Inv *?!]Name\\-", ""), validation, badName),
		{op: "DeleteSecret", in: obj{"SecretId": "Inv Name", "ForceDeleteWithoutRecovery": true}, code: validation, message: badName},
		{op: "DescribeSecret", in: obj{"SecretId": "Inv Name"}, code: validation, message: badName},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "Inv Name"}, code: validation, message: badName},
		{op: "PutSecretValue", in: obj{"SecretId": "Inv Name", "SecretString": "s"}, code: validation, message: badName},
		{op: "TagResource", in: obj{"SecretId": "Inv Name", "Tags": arr{obj{"Key": "k", "Value": "v"}}}, code: validation, message: badName},
		{op: "UntagResource", in: obj{"SecretId": "Inv Name", "TagKeys": arr{"k"}}, code: validation, message: badName},
		{op: "UpdateSecret", in: obj{"SecretId": "Inv Name", "Description": "d"}, code: validation, message: badName},
		{op: "RestoreSecret", in: obj{"SecretId": "Inv Name"}, code: validation, message: badName},
		{op: "UpdateSecretVersionStage", in: obj{"SecretId": "Inv Name", "VersionStage": "s", "MoveToVersionId": "${v1}"}, code: validation, message: badName},
	}},
	{name: "every operation on a secret needs one", steps: []step{
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, code: notFoundCode, message: noSecret},
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "s"}, code: notFoundCode, message: noSecret},
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "s"}, code: notFoundCode, message: noSecret},
		{op: "TagResource", in: obj{"SecretId": "${name}", "Tags": arr{obj{"Key": "k", "Value": "v"}}}, code: notFoundCode, message: noSecret},
		{op: "UntagResource", in: obj{"SecretId": "${name}", "TagKeys": arr{"k"}}, code: notFoundCode, message: noSecret},
		{op: "DeleteSecret", in: obj{"SecretId": "${name}"}, code: notFoundCode, message: noSecret},
		{op: "RestoreSecret", in: obj{"SecretId": "${name}"}, code: notFoundCode, message: noSecret},
		{op: "UpdateSecretVersionStage", in: obj{"SecretId": "${name}", "VersionStage": "s", "MoveToVersionId": "${v1}"}, code: notFoundCode, message: noSecret},
	}},
	{name: "listing the versions of no secret is not found", moto: "HTTP 500", steps: []step{
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}"}, code: notFoundCode, message: noSecret},
	}},
	{name: "a binary value comes back byte for byte and without a string", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretBinary": "AAEC//79"}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}"}, want: obj{"SecretBinary": "AAEC//79"}, absent: []string{"SecretString"}},
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretBinary": "/v0="}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}"}, want: obj{"SecretBinary": "/v0="}, absent: []string{"SecretString"}},
	}},
	{name: "binary is base64 on the wire", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretBinary": "Zm9vdGVzdA=="}},
		{op: "GetSecretValue", raw: true, in: obj{"SecretId": "${name}"}, want: obj{"SecretBinary": "Zm9vdGVzdA=="}},
	}},
	{name: "a text of any characters comes back as it was", steps: []step{
		create("${name}", "<a&b> \u2028 \x00\x7f é 🔑 \\ \" \n"), get("${name}", "<a&b> \u2028 \x00\x7f é 🔑 \\ \" \n"),
	}},
	{name: "get by version id, by stage and by both", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v1}"}, want: obj{"SecretString": "one", "VersionStages": set{"AWSPREVIOUS"}}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionStage": "AWSPREVIOUS"}, want: obj{"SecretString": "one"}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v2}", "VersionStage": "AWSCURRENT"}, want: obj{"SecretString": "two"}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v1}", "VersionStage": "AWSCURRENT"}, code: request, message: "You provided a VersionStage that is not associated to the provided VersionId."},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v3}"}, code: notFoundCode, message: "Secrets Manager can't find the specified secret value for VersionId: ${v3}"},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionStage": "AWSPENDING"}, code: notFoundCode, message: "Secrets Manager can't find the specified secret value for staging label: AWSPENDING"},
	}},
	{name: "a version id has 32 to 64 characters", moto: "not found", steps: []step{
		create("${name}", "s"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "v1"}, code: validation, message: "1 validation error detected: Value 'v1' at 'versionId' failed to satisfy constraint: Member must have length greater than or equal to 32"},
	}},
	{name: "describe has no date of access before the first get", steps: []step{
		create("${name}", "s"),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, absent: []string{"LastAccessedDate"}},
	}},
	{name: "describe has a date of access after a get, without the time", moto: "never has one", steps: []step{
		create("${name}", "s"), get("${name}", "s"),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"LastAccessedDate": matches(`T00:00:00Z$`)}},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}"}, want: obj{"Versions": arr{obj{"LastAccessedDate": matches(`T00:00:00Z$`)}}}},
	}},
	{name: "describe answers what is set and leaves out the rest", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}", "Description": "d", "KmsKeyId": "alias/k", "Tags": arr{obj{"Key": "k", "Value": "v"}}}},
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"},
			want:   obj{"Name": "${name}", "Description": "d", "KmsKeyId": "alias/k", "Tags": arr{obj{"Key": "k", "Value": "v"}}, "CreatedDate": present, "LastChangedDate": present, "VersionIdsToStages": exact{"${v1}": set{"AWSCURRENT"}}},
			absent: []string{"DeletedDate", "RotationEnabled", "RotationLambdaARN", "PrimaryRegion", "OwningService", "NextRotationDate", "ReplicationStatus"}},
	}},
	{name: "describe leaves out an empty description and tags that never were", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "Description": ""}},
		{op: "DescribeSecret", raw: true, in: obj{"SecretId": "${name}"}, absent: []string{"Description", "Tags", "DeletedDate"}},
	}},
}
