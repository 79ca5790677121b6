package local_test

import (
	"fmt"
	"strings"
)

// putMany adds versions until a secret has n labelled or unlabelled ones.
func putMany(n int) []step {
	steps := []step{create("${name}", "s0")}
	for i := 1; i < n; i++ {
		steps = append(steps, step{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": fmt.Sprintf("s%d", i)}})
	}
	return steps
}

func labels(n int) []string {
	var l []string
	for i := range n {
		l = append(l, fmt.Sprintf("L%02d", i))
	}
	return l
}

func count(n int) like {
	return func(got any) error {
		if list, _ := got.(arr); len(list) != n {
			return fmt.Errorf("got %d elements, want %d", len(list), n)
		}
		return nil
	}
}

var versionRows = []row{
	{name: "put moves AWSCURRENT and AWSPREVIOUS", steps: []step{
		createAs("${name}", "one", "${v1}"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "two", "ClientRequestToken": "${v2}"},
			want: obj{"ARN": "${arn}", "Name": "${name}", "VersionId": "${v2}", "VersionStages": set{"AWSCURRENT"}}},
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT"}}),
		get("${name}", "two"),
	}},
	{name: "versions without labels are left out of describe", moto: "lists them with no labels", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"), put("${name}", "three", "${v3}"),
		stages(obj{"${v2}": set{"AWSPREVIOUS"}, "${v3}": set{"AWSCURRENT"}}),
	}},
	{name: "a version without labels can still be read by its id", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"), put("${name}", "three", "${v3}"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v1}"}, want: obj{"SecretString": "one", "VersionStages": set{}}},
	}},
	{name: "put with the same token and value does nothing", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}"}, want: obj{"VersionId": "${v1}", "VersionStages": set{"AWSCURRENT"}}},
		stages(obj{"${v1}": set{"AWSCURRENT"}}),
	}},
	{name: "put with the same token and another value is ResourceExists", steps: []step{
		createAs("${name}", "s", "${v1}"),
		refused(put("${name}", "other", "${v1}"), exists, tokenTaken),
		get("${name}", "s"),
	}},
	{name: "put with the same token as text and as bytes is ResourceExists", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretBinary": "cw==", "ClientRequestToken": "${v1}"}, code: exists, message: tokenTaken},
	}},
	{name: "put without a value is refused", steps: []step{
		create("${name}", "s"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}"}, code: request, message: "You must provide either SecretString or SecretBinary."},
	}},
	{name: "put with both values is refused", moto: "keeps both", steps: []step{
		create("${name}", "s"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "s", "SecretBinary": "AAE="}, code: parameter, message: "You can't specify both a binary secret value and a string secret value in the same secret."},
	}},
	{name: "put of 65,537 bytes is refused", moto: "has no limit", steps: []step{
		create("${name}", "s"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": tooLong}, code: validation},
	}},
	{name: "put with stages leaves AWSCURRENT where it is", steps: []step{
		createAs("${name}", "one", "${v1}"),
		{op: "PutSecretValue", in: obj{"SecretId": "${name}", "SecretString": "two", "ClientRequestToken": "${v2}", "VersionStages": arr{"AWSPENDING", "MINE"}}, want: obj{"VersionStages": set{"AWSPENDING", "MINE"}}},
		get("${name}", "one"),
		stages(obj{"${v1}": set{"AWSCURRENT"}, "${v2}": set{"AWSPENDING", "MINE"}}),
	}},
	{name: "put with stages takes them from other versions", steps: []step{
		createAs("${name}", "one", "${v1}"),
		put("${name}", "two", "${v2}", "a", "b", "c"), put("${name}", "three", "${v3}", "a", "b", "d"),
		stages(obj{"${v1}": set{"AWSCURRENT"}, "${v2}": set{"c"}, "${v3}": set{"a", "b", "d"}}),
	}},
	{name: "put with AWSCURRENT and a label moves AWSPREVIOUS too", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSCURRENT", "MINE"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT", "MINE"}}),
	}},
	{name: "the first version becomes AWSCURRENT whatever its stages", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}"}},
		put("${name}", "s", "${v1}", "MINE"),
		stages(obj{"${v1}": set{"AWSCURRENT", "MINE"}}),
	}},
	{name: "a version that loses AWSCURRENT to a new one loses AWSPENDING", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSPENDING"),
		move("AWSCURRENT", "${v1}", "${v2}"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT", "AWSPENDING"}}),
		put("${name}", "three", "${v3}"),
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "IncludeDeprecated": false}, want: obj{"Versions": labelled{"${v2}": {"AWSPREVIOUS"}, "${v3}": {"AWSCURRENT"}}}},
	}, moto: "a put after a moved AWSCURRENT demotes the wrong version"},
	{name: "at most 20 stages in a put", moto: "has no limit", steps: []step{
		create("${name}", "s"),
		refused(put("${name}", "two", "${v2}", labels(21)...), validation, "1 validation error detected: Value at 'versionStages' failed to satisfy constraint: Member must have length less than or equal to 20"),
	}},
	{name: "at most 20 labels across the versions of a secret", moto: "has no limit", steps: []step{
		createAs("${name}", "s", "${v1}"),
		put("${name}", "two", "${v2}", labels(19)...),
		refused(put("${name}", "three", "${v3}", "ONE-MORE"), "LimitExceededException", ""),
		refused(move("ONE-MORE", "", "${v1}"), "LimitExceededException", ""),
		put("${name}", "three", "${v3}", "L00"),
	}},
	{name: "versions without labels are kept up to 100", moto: "keeps all", steps: append(putMany(105),
		step{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "IncludeDeprecated": true, "MaxResults": 100}, want: obj{"Versions": count(100)}, save: map[string]string{"next": "NextToken"}},
		step{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "IncludeDeprecated": true, "NextToken": "${next}"}, want: obj{"Versions": count(2)}, absent: []string{"NextToken"}},
		get("${name}", "s104"),
		step{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionId": "${v}"}, code: notFoundCode},
	)},
	{name: "update with a value moves AWSCURRENT", steps: []step{
		createAs("${name}", "one", "${v1}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${arn}", "SecretString": "two", "ClientRequestToken": "${v2}", "Description": "d"}, want: obj{"ARN": "${arn}", "Name": "${name}", "VersionId": "${v2}"}},
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT"}}),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"Description": "d"}},
	}},
	{name: "update without a value makes no version", steps: []step{
		createAs("${name}", "one", "${v1}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "Description": "d"}, want: obj{"ARN": "${arn}"}, absent: []string{"VersionId"}},
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "KmsKeyId": "alias/k"}, absent: []string{"VersionId"}},
		stages(obj{"${v1}": set{"AWSCURRENT"}}),
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, want: obj{"Description": "d", "KmsKeyId": "alias/k"}},
	}},
	{name: "update with an empty description takes it away", moto: "keeps it", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "Description": "d"}},
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "Description": ""}},
		{op: "DescribeSecret", in: obj{"SecretId": "${name}"}, absent: []string{"Description"}},
	}},
	{name: "update with the same value makes a version", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "s", "ClientRequestToken": "${v2}"}, want: obj{"VersionId": "${v2}"}},
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT"}}),
	}},
	{name: "update with the same token and value does nothing", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}"}, want: obj{"VersionId": "${v1}"}},
		stages(obj{"${v1}": set{"AWSCURRENT"}}),
	}},
	{name: "update with the same token and another value is ResourceExists", steps: []step{
		createAs("${name}", "s", "${v1}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "t", "ClientRequestToken": "${v1}"}, code: exists, message: tokenTaken},
	}},
	{name: "update with both values is refused", moto: "keeps both", steps: []step{
		create("${name}", "s"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "s", "SecretBinary": "AAE="}, code: parameter},
	}},
	{name: "version ids are listed with ARN, name and key", moto: "its ARN is the name, and it has no keys", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"),
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}"}, want: obj{"ARN": "${arn}", "Name": "${name}", "Versions": arr{
			obj{"VersionId": "${v1}", "VersionStages": set{"AWSPREVIOUS"}, "KmsKeyIds": arr{"DefaultEncryptionKey"}, "CreatedDate": present},
			obj{"VersionId": "${v2}", "VersionStages": set{"AWSCURRENT"}, "KmsKeyIds": arr{"DefaultEncryptionKey"}, "CreatedDate": present},
		}}},
	}},
	{name: "version ids without labels are listed on request", moto: "always lists them", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"), put("${name}", "three", "${v3}"),
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}"}, want: obj{"Versions": labelled{"${v2}": {"AWSPREVIOUS"}, "${v3}": {"AWSCURRENT"}}}},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "IncludeDeprecated": true}, want: obj{"Versions": labelled{"${v1}": nil, "${v2}": {"AWSPREVIOUS"}, "${v3}": {"AWSCURRENT"}}}},
	}},
	{name: "version ids come in pages", moto: "ignores MaxResults", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"), put("${name}", "three", "${v3}", "MINE"),
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "MaxResults": 2}, want: obj{"Versions": labelled{"${v1}": {"AWSPREVIOUS"}, "${v2}": {"AWSCURRENT"}}, "NextToken": present}, save: map[string]string{"next": "NextToken"}},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "MaxResults": 2, "NextToken": "${next}"}, want: obj{"Versions": labelled{"${v3}": {"MINE"}}}, absent: []string{"NextToken"}},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "NextToken": "made up"}, code: "InvalidNextTokenException"},
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}", "MaxResults": 101}, code: validation},
	}},
}

var stageRows = []row{
	{name: "moving AWSCURRENT moves AWSPREVIOUS, and back", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"),
		{op: "UpdateSecretVersionStage", in: obj{"SecretId": "${name}", "VersionStage": "AWSCURRENT", "RemoveFromVersionId": "${v2}", "MoveToVersionId": "${v1}"}, want: obj{"ARN": "${arn}", "Name": "${name}"}},
		stages(obj{"${v1}": set{"AWSCURRENT"}, "${v2}": set{"AWSPREVIOUS"}}),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionStage": "AWSCURRENT"}, want: obj{"SecretString": "one"}},
		move("AWSCURRENT", "${v1}", "${v2}"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT"}}),
	}},
	{name: "get without a stage follows a moved AWSCURRENT", moto: "returns the old version", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSPENDING"),
		move("AWSCURRENT", "${v1}", "${v2}"),
		get("${name}", "two"),
	}},
	{name: "update after a moved AWSCURRENT leaves one AWSCURRENT", moto: "two versions carry it", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSPENDING"),
		move("AWSCURRENT", "${v1}", "${v2}"),
		{op: "UpdateSecret", in: obj{"SecretId": "${name}", "SecretString": "three", "ClientRequestToken": "${v3}"}},
		stages(obj{"${v2}": set{"AWSPREVIOUS"}, "${v3}": set{"AWSCURRENT"}}),
	}},
	{name: "a rotation keeps labels of one's own where they are", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSSOMETHING", "AWSPENDING", "PUT1"),
		move("AWSCURRENT", "${v1}", "${v2}"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT", "AWSPENDING", "AWSSOMETHING", "PUT1"}}),
		put("${name}", "three", "${v3}", "AWSPENDING", "PUT2"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT", "AWSSOMETHING", "PUT1"}, "${v3}": set{"AWSPENDING", "PUT2"}}),
		move("AWSCURRENT", "${v2}", "${v3}"),
		{op: "ListSecretVersionIds", in: obj{"SecretId": "${name}"}, want: obj{"Versions": labelled{"${v2}": {"AWSPREVIOUS", "AWSSOMETHING", "PUT1"}, "${v3}": {"AWSCURRENT", "AWSPENDING", "PUT2"}}}},
	}, moto: "lists versions without labels"},
	{name: "a label of one's own is added, moved and removed", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"),
		move("MINE", "", "${v1}"),
		stages(obj{"${v1}": set{"AWSPREVIOUS", "MINE"}, "${v2}": set{"AWSCURRENT"}}),
		move("MINE", "${v1}", "${v2}"),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT", "MINE"}}),
		move("MINE", "${v2}", ""),
		stages(obj{"${v1}": set{"AWSPREVIOUS"}, "${v2}": set{"AWSCURRENT"}}),
	}},
	{name: "AWSCURRENT is not moved without the version that has it", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSPENDING"),
		refused(move("AWSCURRENT", "", "${v2}"), parameter, "The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to version ${v1}, so you must explicitly reference that version in RemoveFromVersionId."),
		get("${name}", "one"),
	}},
	{name: "no label is moved without the version that has it", moto: "attaches it to both", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "MINE"),
		refused(move("MINE", "", "${v1}"), parameter, "The parameter RemoveFromVersionId can't be empty. Staging label MINE is currently attached to version ${v2}, so you must explicitly reference that version in RemoveFromVersionId."),
	}},
	{name: "a label is not moved from a version that has it not", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"), put("${name}", "three", "${v3}", "MINE"),
		refused(move("AWSCURRENT", "${v1}", "${v3}"), parameter, "When you move staging label AWSCURRENT, if you specify RemoveFromVersionId, it must be set to the version that currently has the staging label AWSCURRENT."),
		refused(move("NOBODYS", "${v1}", "${v3}"), parameter, ""),
	}},
	{name: "a label is not moved to or from an unknown version", steps: []step{
		createAs("${name}", "one", "${v1}"),
		refused(move("AWSCURRENT", "${v1}", "${v9}"), parameter, ""),
		refused(move("AWSCURRENT", "${v9}", "${v1}"), parameter, ""),
	}},
	{name: "a refused move changes nothing", moto: "has taken the label away already", steps: []step{
		createAs("${name}", "one", "${v1}"),
		refused(move("AWSCURRENT", "${v1}", "${v9}"), parameter, ""),
		stages(obj{"${v1}": set{"AWSCURRENT"}}),
	}},
	{name: "AWSCURRENT cannot be removed", moto: "removes it", steps: []step{
		createAs("${name}", "one", "${v1}"),
		refused(move("AWSCURRENT", "${v1}", ""), parameter, "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed."),
	}},
	{name: "a move needs a version", moto: "does nothing", steps: []step{
		create("${name}", "s"),
		refused(move("MINE", "", ""), parameter, ""),
	}},
	{name: "moving a label to where it is does nothing", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}"),
		move("AWSCURRENT", "${v2}", "${v2}"),
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionStage": "AWSCURRENT"}, want: obj{"VersionId": "${v2}", "VersionStages": set{"AWSCURRENT"}}},
		{op: "GetSecretValue", in: obj{"SecretId": "${name}", "VersionStage": "AWSPREVIOUS"}, want: obj{"VersionId": "${v1}"}},
	}, moto: "gives AWSPREVIOUS to the same version"},
	{name: "a stage has at most 256 characters", moto: "has no limit", steps: []step{
		createAs("${name}", "one", "${v1}"),
		refused(move(strings.Repeat("x", 257), "", "${v1}"), validation, ""),
	}},
}
