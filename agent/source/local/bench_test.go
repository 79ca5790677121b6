package local_test

import (
	"net/http"
	"testing"

	"secretsd/agent/source/local"
)

// BenchmarkGetSecretValueOnLoopback is the service as a load backend: plain
// HTTP with kept connections, no SDK.
func BenchmarkGetSecretValueOnLoopback(b *testing.B) {
	s := local.New(local.Options{})
	_ = s.Put("prod/db", `{"user":"app","password":"correct horse battery staple","host":"db.internal","port":5432}`)
	back := onLoopback(b, s)
	back.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a, err := back.raw(b.Context(), "GetSecretValue", `{"SecretId":"prod/db","VersionStage":"AWSCURRENT"}`); err != nil || a.status != 200 {
				b.Fatal(a, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
