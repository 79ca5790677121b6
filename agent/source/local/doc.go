// Package local is a Secrets Manager of its own: an [http.Handler] that speaks
// the JSON 1.1 protocol of AWS Secrets Manager over secrets held in memory. The
// agent reaches it through the same SDK client as AWS, in process by
// [Service.Transport] or over loopback, so development, tests and production
// run one code path.
//
// The rules are those of the Secrets Manager API reference (API version
// 2017-10-17). Where the reference is silent, the real service's recorded
// answers decide: the snapshots of LocalStack's tests
// (tests/aws/services/secretsmanager) and the tests of moto that were verified
// against AWS. "Recorded" in a comment of this package means those.
//
// What it leaves out: rotation, replication, resource policies, KMS, IAM and
// signature checks. An operation it does not know is answered with
// UnknownOperationException.
//
// # Secrets file
//
// [Service.Load] reads secrets from a YAML file of one shape:
//
//	secrets:
//	  - name: prod/db              # required, as in CreateSecret
//	    json:                      # exactly one of json, string and binary
//	      user: app
//	      port: 5432
//	    description: main database # optional
//	    tags: {app: shop}          # optional
//	  - name: prod/licence
//	    string: 'any text'         # the text as written; quote it to be safe
//	  - name: prod/keystore
//	    binary: AAECAw==           # base64
//
// A json value becomes compact JSON with its keys in the order of the file and
// its numbers digit by digit. testdata/secrets.yaml is a whole example.
package local
