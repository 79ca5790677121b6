package local_test

import (
	"fmt"
	"maps"
)

func batch(ids ...string) step {
	return step{op: "BatchGetSecretValue", in: obj{"SecretIdList": ids}}
}

func batchBy(key string, values ...string) step {
	return step{op: "BatchGetSecretValue", in: obj{"Filters": arr{by(key, values...)}}}
}

func by(key string, values ...string) obj { return obj{"Key": key, "Values": values} }

func (s step) wants(o obj) step { s.want = o; return s }

func createMany(n int, names string) []step {
	var steps []step
	for i := range n {
		steps = append(steps, create(fmt.Sprintf(names, i), fmt.Sprint(i)))
	}
	return steps
}

var batchRows = []row{
	{name: "batch by ids answers values and errors", steps: []step{
		createAs("${name}", "a", "${v1}"), {op: "CreateSecret", in: obj{"Name": "${name}-b", "SecretBinary": "AAE="}},
		batch("${name}", "${name}-none", "${name}-b").wants(obj{
			"SecretValues": arr{
				obj{"ARN": "${arn}", "Name": "${name}", "VersionId": "${v1}", "SecretString": "a", "VersionStages": set{"AWSCURRENT"}, "CreatedDate": present},
				obj{"Name": "${name}-b", "SecretBinary": "AAE="},
			},
			"Errors": arr{obj{"SecretId": "${name}-none", "ErrorCode": notFoundCode, "Message": noSecret}},
		}),
	}},
	{name: "batch by ARN and partial ARN", steps: []step{
		create("${name}", "a"), batch("${arn}").wants(obj{"SecretValues": named{"${name}"}}), batch("${arn-}").wants(obj{"SecretValues": named{"${name}"}}),
	}},
	{name: "batch answers empty lists", steps: []step{
		{op: "BatchGetSecretValue", raw: true, in: obj{"SecretIdList": arr{"${name}"}}, want: obj{"SecretValues": arr{}, "Errors": count(1)}, absent: []string{"NextToken"}},
	}},
	{name: "batch with a deleted secret has an error for it", steps: []step{
		create("${name}", "a"), create("${name}-b", "b"), {op: "DeleteSecret", in: obj{"SecretId": "${name}"}},
		batch("${name}", "${name}-b").wants(obj{"SecretValues": named{"${name}-b"}, "Errors": arr{obj{"SecretId": "${name}", "ErrorCode": request}}}),
	}},
	{name: "batch with a secret without a value has an error for it", moto: "the whole call fails", steps: []step{
		create("${name}", "a"), {op: "CreateSecret", in: obj{"Name": "${name}-b"}},
		batch("${name}", "${name}-b").wants(obj{"SecretValues": named{"${name}"}, "Errors": arr{obj{"SecretId": "${name}-b", "ErrorCode": notFoundCode, "Message": "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"}}}),
	}},
	{name: "batch follows a moved AWSCURRENT", moto: "returns the old version", steps: []step{
		createAs("${name}", "one", "${v1}"), put("${name}", "two", "${v2}", "AWSPENDING"), move("AWSCURRENT", "${v1}", "${v2}"),
		batch("${name}").wants(obj{"SecretValues": arr{obj{"SecretString": "two", "VersionId": "${v2}"}}}),
	}},
	{name: "batch takes 20 ids", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"SecretIdList": labels(20)}, want: obj{"Errors": count(20)}},
	}},
	{name: "batch of 21 ids is refused", moto: "has no limit", steps: []step{
		refused(batch(labels(21)...), validation, "1 validation error detected: Value at 'secretIdList' failed to satisfy constraint: Member must have length less than or equal to 20"),
	}},
	{name: "batch of no ids is refused", moto: "answers an empty 200", steps: []step{
		{op: "BatchGetSecretValue", raw: true, in: obj{"SecretIdList": arr{}}, code: validation},
	}},
	{name: "batch needs ids or filters", moto: "answers an empty 200", steps: []step{
		{op: "BatchGetSecretValue", in: obj{}, code: parameter, message: "Either 'SecretIdList' or 'Filters' must be provided, but not both."},
	}},
	{name: "batch takes ids or filters, not both", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"SecretIdList": arr{"a"}, "Filters": arr{by("name", "a")}}, code: parameter, message: "Either 'SecretIdList' or 'Filters' must be provided, but not both."},
	}},
	{name: "batch takes MaxResults with filters only", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"SecretIdList": arr{"a"}, "MaxResults": 2}, code: parameter, message: "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided."},
	}},
	{name: "batch takes NextToken with filters only", moto: "ignores it", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"SecretIdList": arr{"a"}, "NextToken": "x"}, code: "InvalidNextTokenException"},
	}},
	{name: "batch by filter", steps: []step{
		create("${name}-a", "a"), create("${name}-b", "b"),
		batchBy("name", "${name}-").wants(obj{"SecretValues": arr{obj{"Name": "${name}-a", "SecretString": "a"}, obj{"Name": "${name}-b", "SecretString": "b"}}}),
	}},
	{name: "batch by filter leaves out deleted secrets", moto: "the whole call fails", steps: []step{
		create("${name}-a", "a"), create("${name}-b", "b"), {op: "DeleteSecret", in: obj{"SecretId": "${name}-a"}},
		batchBy("name", "${name}-").wants(obj{"SecretValues": named{"${name}-b"}, "Errors": count(0)}),
	}},
	{name: "batch by filter comes in pages", steps: []step{
		create("${name}-a", "a"), create("${name}-b", "b"), create("${name}-c", "c"),
		{op: "BatchGetSecretValue", in: obj{"Filters": arr{by("name", "${name}-")}, "MaxResults": 2}, want: obj{"SecretValues": named{"${name}-a", "${name}-b"}, "NextToken": present}, save: map[string]string{"next": "NextToken"}},
		{op: "BatchGetSecretValue", in: obj{"Filters": arr{by("name", "${name}-")}, "MaxResults": 2, "NextToken": "${next}"}, want: obj{"SecretValues": named{"${name}-c"}}, absent: []string{"NextToken"}},
	}},
	{name: "batch by filter has 20 in a page", moto: "all", steps: append(createMany(21, "${name}-%02d"),
		batchBy("name", "${name}-").wants(obj{"SecretValues": count(20), "NextToken": present}))},
	{name: "batch has at most 20 results", moto: "has no limit", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"Filters": arr{by("name", "a")}, "MaxResults": 21}, code: validation, message: "1 validation error detected: Value '21' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 20"},
	}},
	{name: "batch with a token that is none", moto: "HTTP 500", steps: []step{
		{op: "BatchGetSecretValue", in: obj{"Filters": arr{by("name", "a")}, "NextToken": "made up"}, code: "InvalidNextTokenException"},
	}},
}

func list(filters ...obj) step {
	var all arr
	for _, f := range filters {
		all = append(all, f)
	}
	return step{op: "ListSecrets", in: obj{"Filters": all}}
}

func (s step) with(member string, v any) step {
	s.in = maps.Clone(s.in)
	s.in[member] = v
	return s
}

func (s step) finds(names ...string) step { return s.wants(obj{"SecretList": named(names)}) }

// three secrets of the row, created in this order.
var abc = []step{create("${name}-b", "1"), create("${name}-c", "2"), create("${name}-a", "3")}

func after(first []step, more ...step) []step { return append(append([]step{}, first...), more...) }

var listRows = []row{
	{name: "list answers the members of describe", steps: []step{
		{op: "CreateSecret", in: obj{"Name": "${name}", "SecretString": "s", "ClientRequestToken": "${v1}", "Description": "d", "Tags": arr{obj{"Key": "k", "Value": "v"}}}, save: map[string]string{"arn": "ARN"}},
		list(by("name", "${name}")).wants(obj{"SecretList": arr{obj{"ARN": "${arn}", "Name": "${name}", "Description": "d", "Tags": arr{obj{"Key": "k", "Value": "v"}},
			"SecretVersionsToStages": exact{"${v1}": set{"AWSCURRENT"}}, "CreatedDate": present, "LastChangedDate": present}}}),
	}},
	{name: "list is in the order of creation", steps: after(abc, list(by("name", "${name}-")).finds("${name}-b", "${name}-c", "${name}-a"))},
	{name: "list is reversed by SortOrder", moto: "ignores it", steps: after(abc, list(by("name", "${name}-")).with("SortOrder", "desc").finds("${name}-a", "${name}-c", "${name}-b"))},
	{name: "list is sorted by SortBy", moto: "ignores it", steps: after(abc,
		list(by("name", "${name}-")).with("SortBy", "name").finds("${name}-a", "${name}-b", "${name}-c"),
		list(by("name", "${name}-")).with("SortBy", "name").with("SortOrder", "desc").finds("${name}-c", "${name}-b", "${name}-a"))},
	{name: "list refuses another SortOrder", moto: "ignores it", steps: []step{
		refused(list().with("SortOrder", "up"), validation, "1 validation error detected: Value 'up' at 'sortOrder' failed to satisfy constraint: Member must satisfy enum value set: [asc, desc]"),
	}},
	{name: "list comes in pages", steps: after(abc,
		step{op: "ListSecrets", in: obj{"Filters": arr{by("name", "${name}-")}, "MaxResults": 2}, want: obj{"SecretList": named{"${name}-b", "${name}-c"}, "NextToken": present}, save: map[string]string{"next": "NextToken"}},
		step{op: "ListSecrets", in: obj{"Filters": arr{by("name", "${name}-")}, "MaxResults": 2, "NextToken": "${next}"}, want: obj{"SecretList": named{"${name}-a"}}, absent: []string{"NextToken"}})},
	{name: "list has 100 in a page", steps: append(createMany(101, "${name}-%03d"), list(by("name", "${name}-")).wants(obj{"SecretList": count(100), "NextToken": present}))},
	{name: "list has 1 to 100 results", moto: "has no limit", steps: []step{
		refused(list().with("MaxResults", 101), validation, "1 validation error detected: Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"),
		refused(list().with("MaxResults", 0), validation, "1 validation error detected: Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"),
	}},
	{name: "list with a token that is none", moto: "HTTP 500", steps: []step{refused(list().with("NextToken", "cGFnZTotMQ"), "InvalidNextTokenException", "")}},
	{name: "list leaves out deleted secrets but on request", steps: after(abc,
		step{op: "DeleteSecret", in: obj{"SecretId": "${name}-c"}},
		list(by("name", "${name}-")).finds("${name}-b", "${name}-a"),
		list(by("name", "${name}-")).with("IncludePlannedDeletion", true).finds("${name}-b", "${name}-c", "${name}-a"))},
	{name: "list without secrets is an empty list", steps: []step{
		{op: "ListSecrets", raw: true, in: obj{"Filters": arr{by("name", "${name}")}}, want: obj{"SecretList": arr{}}, absent: []string{"NextToken"}},
	}},
}

// described are secrets of the row with the descriptions of LocalStack's test.
var described = []step{
	{op: "CreateSecret", in: obj{"Name": "${name}-1/one", "SecretString": "s", "Description": "a secret", "Tags": arr{obj{"Key": "App", "Value": "Shop"}, obj{"Key": "tier", "Value": "1"}}}},
	{op: "CreateSecret", in: obj{"Name": "${name}-2/two", "SecretString": "s", "Description": "an secret", "Tags": arr{obj{"Key": "Apps", "Value": "x"}}}},
	{op: "CreateSecret", in: obj{"Name": "${name}-3/three", "SecretString": "s", "Description": "asecret"}},
	{op: "CreateSecret", in: obj{"Name": "${name}-4/four", "SecretString": "s", "Description": "thesecret"}},
}

// mine narrows a list to the row's own secrets.
var mine = by("name", "${name}-")

func find(key string, values ...string) step { return list(mine, by(key, values...)) }

func n(i int) string {
	return "${name}-" + []string{"1/one", "2/two", "3/three", "4/four"}[i-1]
}

var filterRows = []row{
	{name: "filter name by prefix, with case", steps: after(described,
		list(by("name", "${name}-1")).finds(n(1)), list(by("name", "${name}-1/O")).finds(), list(by("name", "one")).with("Filters", arr{mine, by("name", "one")}).finds(),
		find("name", "${name}-1 one").finds())},
	{name: "filter values are alternatives", steps: after(described, find("name", "${name}-1", "${name}-4").finds(n(1), n(4)))},
	{name: "filters are conditions", steps: after(described, find("description", "a").with("Filters", arr{mine, by("description", "a"), by("name", "${name}-2")}).finds(n(2)))},
	{name: "filter name negated", steps: after(described, find("name", "!${name}-1").finds(n(2), n(3), n(4)))},
	{name: "filter description by the beginnings of words, without case", steps: after(described,
		find("description", "a").finds(n(1), n(2), n(3)), find("description", "a sec").finds(n(1), n(2)), find("description", "secret a").finds(n(1), n(2)))},
	{name: "filter description takes several words in capitals", moto: "does not cut them at spaces", steps: after(described, find("description", "A SEC").finds(n(1), n(2)))},
	{name: "filter description negated", steps: after(described, find("description", "!a").finds(n(4)), find("description", "!c").finds(n(1), n(2), n(3), n(4)))},
	{name: "filter tag-key by prefix, with case", steps: after(described, find("tag-key", "App").finds(n(1), n(2)), find("tag-key", "app").finds(), find("tag-key", "Apps").finds(n(2)))},
	{name: "filter tag-value by prefix, with case", steps: after(described, find("tag-value", "Sh").finds(n(1)), find("tag-value", "sh").finds())},
	{name: "filter tag-key negated", moto: "wants any other tag, and no untagged secret", steps: after(described, find("tag-key", "!Apps").finds(n(1), n(3), n(4)))},
	{name: "filter primary-region and owning-service match no plain secret", steps: after(described, find("primary-region", "us").finds(), find("owning-service", "rds").finds())},
	{name: "filter primary-region negated", moto: "does not know negation here", steps: after(described, find("primary-region", "!eu").finds(n(1), n(2), n(3), n(4)))},
	{name: "filter all by the beginnings of words in every member", steps: after(described,
		find("all", "shop").finds(n(1)), find("all", "tier").finds(n(1)), find("all", "THESEC").finds(n(4)), find("all", "ecret").finds())},
	{name: "filter all cuts names at special and capital characters", steps: []step{
		create("${name}-prod/AppBeta/x", "s"), create("${name}-uat/COMPANYthings/x", "s"), create("${name}-SecretFTag", "s"),
		find("all", "Beta").finds("${name}-prod/AppBeta/x"), find("all", "AppBeta").finds("${name}-prod/AppBeta/x"),
		find("all", "Ythings").finds("${name}-uat/COMPANYthings/x"), find("all", "things").finds(), find("all", "company").finds(),
		find("all", "secret").finds("${name}-SecretFTag"), find("all", "tag").finds("${name}-SecretFTag"), find("all", "+").finds(),
	}, moto: "does not cut a name with two kinds of special characters"},
	{name: "filter all cuts a name of one kind of special characters", steps: []step{
		create("${name}-prod-AppBeta", "s"), find("all", "Beta").finds("${name}-prod-AppBeta"), find("all", "AppBeta prod").finds("${name}-prod-AppBeta"), find("all", "eta").finds(),
	}},
	{name: "filter with another key is refused", steps: []step{refused(find("colour", "red"), validation, "1 validation error detected: Value 'colour' at 'filters.2.member.key' failed to satisfy constraint: Member must satisfy enum value set: [description, name, tag-key, tag-value, primary-region, owning-service, all]")}},
	{name: "filter without key or values is refused", steps: []step{
		{op: "ListSecrets", raw: true, in: obj{"Filters": arr{obj{"Values": arr{"x"}}}}, code: parameter, message: "Invalid filter key"},
		{op: "ListSecrets", raw: true, in: obj{"Filters": arr{obj{"Key": "name"}}}, code: parameter, message: "Invalid filter values for key: name"},
	}},
	{name: "at most 10 filters of 1 to 10 values", moto: "has no limits", steps: []step{
		refused(find("name", labels(11)...), validation, "1 validation error detected: Value at 'filters.2.member.values' failed to satisfy constraint: Member must have length less than or equal to 10"),
		refused(list(mine, mine, mine, mine, mine, mine, mine, mine, mine, mine, mine), validation, ""),
		{op: "ListSecrets", raw: true, in: obj{"Filters": arr{obj{"Key": "name", "Values": arr{}}}}, code: validation},
	}},
	{name: "a filter value has the characters of its pattern", moto: "takes any", steps: []step{refused(find("name", "a*"), validation, "")}},
}
