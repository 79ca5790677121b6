package agent

import (
	"net/http"

	"secretsd/agent/metrics"
)

// telemetry returns what the telemetry listener on addr serves: off loopback no
// status page.
func (a *Agent) telemetry(addr string) http.Handler {
	mux := http.NewServeMux()
	a.health.serve(mux)
	mux.Handle("GET /metrics", metrics.Handler(a.measure, a.log))
	if onLoopback(addr) {
		mux.Handle("GET /{$}", a.page())
	}
	return mux
}
