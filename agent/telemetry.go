package agent

import (
	"net/http"

	"secretsd/agent/metrics"
)

// telemetry returns what the telemetry listener on addr serves: off loopback no
// status page, and to whoever asks; on loopback nothing to a web page of another
// site.
func (a *Agent) telemetry(addr string) http.Handler {
	mux := http.NewServeMux()
	a.health.serve(mux)
	mux.Handle("GET /metrics", metrics.Handler(a.measure, a.log))
	if !onLoopback(addr) {
		return mux
	}
	mux.Handle("GET /{$}", a.page())
	return notRebound(mux)
}
