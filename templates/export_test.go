package templates

import (
	"io/fs"
	"maps"
	"slices"
)

// SprigNames returns the names of all of sprig's functions.
func SprigNames() []string { return slices.Sorted(maps.Keys(library())) }

// Names returns all names that templates can call.
func Names() []string { return slices.Sorted(maps.Keys(functions())) }

// Refused returns the names that a parse error explains.
func Refused() []string { return slices.Sorted(maps.Keys(refused())) }

// SecretsOfExamples returns the secrets that the examples of [Functions] use, by
// name. The one called key-store is binary.
func SecretsOfExamples() map[string]string {
	return map[string]string{
		"db":        `{"user": "app", "password": "it's \"9\" & <more>", "port": 5432, "hosts": ["a", "b"], "tls": {"ca": "CA"}, "api-key": "k1", "note": null}`,
		"rds":       `{"engine": "postgres", "username": "app", "password": "p@ss/w", "port": 5432, "dbname": "app", "dbInstanceIdentifier": "db-1"}`,
		"pin":       "0042",
		"gcp":       `{"type":"service_account"}`,
		"lines":     "one\ntwo",
		"tags":      `["x", "y"]`,
		"key-store": "\x00\x01\xff",
		"tls":       exampleTLS,
	}
}

// exampleTLS holds a certificate, its chain and its key, made from keys that
// anybody can make.
const exampleTLS = `{"certificate":"-----BEGIN CERTIFICATE-----\nMIIBBTCBuKADAgECAgECMAUGAytlcDAVMRMwEQYDVQQDEwpFeGFtcGxlIENBMCAX\nDTI2MDEwMTAwMDAwMFoYDzIwOTkwMTAxMDAwMDAwWjAXMRUwEwYDVQQDEwxhcHAu\naW50ZXJuYWwwKjAFBgMrZXADIQCBOXcOqH0XX1ajVGbDTH7My42KkbTuN6Jd9g9b\nj8mzlKMpMCcwDAYDVR0TAQH/BAIwADAXBgNVHREEEDAOggxhcHAuaW50ZXJuYWww\nBQYDK2VwA0EAK7GvpaHmm3mH61BOWSz6vior2h7IVKxKb/sdyjR2FNRsPanFlApF\nqDNEOS+9EA/Nx9420phfPbmOqiHfGMkSCg==\n-----END CERTIFICATE-----\n","chain":"-----BEGIN CERTIFICATE-----\nMIIBHDCBz6ADAgECAgEBMAUGAytlcDAVMRMwEQYDVQQDEwpFeGFtcGxlIENBMCAX\nDTI2MDEwMTAwMDAwMFoYDzIwOTkwMTAxMDAwMDAwWjAVMRMwEQYDVQQDEwpFeGFt\ncGxlIENBMCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQP\nb1yjQjBAMA4GA1UdDwEB/wQEAwICBDAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQW\nBBQ0dQ+YvVn8/JRtpFqqvpM74VSktTAFBgMrZXADQQCCPxbjkJFuFh6HGSo4OScb\nnwx9xec28CjKUPCaxb5cQqpTt5Y2FXzEVB9j7QyzaEpqDauyvSftSBj8ZINq18cP\n-----END CERTIFICATE-----\n","key":"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC\n-----END PRIVATE KEY-----\n"}`

// OptionsOfExamples returns the options that the examples of [Functions] are
// parsed with: a variable, an environment variable, and a file to include.
func OptionsOfExamples() Options {
	return Options{
		Vars:     map[string]string{"db_host": "db.internal"},
		AllowEnv: []string{"ZONE", "UNSET"},
		LookupEnv: func(name string) (string, bool) {
			return map[string]string{"ZONE": "eu-1a"}[name], name == "ZONE"
		},
		Library: NewLibrary("templates", func(name string) ([]byte, error) {
			if name != "greeting.tmpl" {
				return nil, fs.ErrNotExist
			}
			return []byte("hello {{ . }}"), nil
		}),
	}
}
