package agent

import (
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// pageStyle is all the style that the page has. Rows become cards where the
// screen is narrow; colours have a contrast of 4.5 at least (WCAG 2.2, 1.4.3), on
// either ground.
const pageStyle = `
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#59636e;--line:#d1d9e0;--ok:#116329;--warn:#7d4e00;--bad:#b3101a}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9198a1;--line:#3d444d;--ok:#3fb950;--warn:#d29922;--bad:#ff7b72}}
*{box-sizing:border-box}
body{font:16px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:0 auto;padding:1rem;max-width:80rem;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:0}p,ul{margin:.3rem 0}ul{padding-left:1.2rem}a{color:inherit}
small,thead th,.soft{color:var(--soft)}small{font-size:.85rem}
table{border-collapse:collapse;width:100%;margin-top:1.8rem}caption{text-align:left;padding-bottom:.3rem}
th{text-align:left;font-weight:600}thead th{font-weight:500;font-size:.85rem;white-space:nowrap}
th,td{padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td{min-width:5rem}td[data-l=Stage]{min-width:8.5rem}td[data-l=Version]{min-width:11rem}td[data-l^=Rendered]{min-width:16rem}
td[data-l=State],td[data-l^=Known],td[data-l^=May]{min-width:14rem}
small{display:block;font-weight:400}.ok{color:var(--ok)}.warn{color:var(--warn)}.bad{color:var(--bad)}b{font-weight:600}code{font-size:.85em}
@media(max-width:50rem){
table,caption,tbody,tr,th,td{display:block}
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr{border-bottom:1px solid var(--line);padding:.6rem 0}th,td{border:0;padding:.1rem 0}td[data-l]{min-width:0}
td{display:grid;align-items:baseline;grid-template-columns:6rem 1fr;gap:.6rem}td::before{content:attr(data-l);color:var(--soft);font-size:.85rem}td:empty{display:none}}
`

// followEvery is after how long a page reloads itself for who has asked for it.
// By itself it does not: that would take a reader's place away (WCAG 2.2, 2.2.4
// and F41).
const followEvery = "10"

// pagePolicy lets the browser apply that style, and fetch and run nothing.
var pagePolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}()

// page returns the status page's handler. It stands on a loopback listener only
// and answers to the names of loopback, so that no other site can have a
// browser read it (DNS rebinding).
func (a *Agent) page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !fromHere(r) {
			http.Error(w, "Forwarded", http.StatusBadRequest)
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		st := a.Status()
		_, _ = w.Write(appendPage(&st, time.Now(), r.URL.Query().Has("follow"))) // a browser that has gone is nobody's error
	})
}

// fromHere reports whether a request names a loopback host and comes neither
// through a proxy nor from another site.
func fromHere(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		if _, present := r.Header[name]; present {
			return false
		}
	}
	return fromThisSite(r) && isLoopbackHost(hostOf(r))
}

// fromThisSite reports whether a request may be that of a person or of a program:
// a browser says of an address typed by a person that it comes from no site (Fetch
// Metadata, Sec-Fetch-Site), and a program says nothing.
func fromThisSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// notRebound refuses what a web page of another site could ask of a listener on
// loopback with its reader's browser. Metrics and probes say what the secrets are
// called. Who scrapes through a proxy names an address, and nobody's DNS can lead
// an address elsewhere.
func notRebound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r)
		_, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "" && err != nil && !isLoopbackHost(host) || !fromThisSite(r) {
			http.Error(w, "Forwarded: telemetry on loopback answers to localhost and to addresses, not to names", http.StatusBadRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf returns the host that a request names, without its port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host
	}
	return host
}

// onLoopback reports whether a listener of addr can be reached from this
// machine only.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}
