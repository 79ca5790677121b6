package endpoint

import (
	"net/netip"
	"strings"
)

// forwardedHeaders say that a request came through a proxy or from a browser:
// neither is a client of this endpoint, and both are how a secret would be
// read by somebody who cannot reach it (SSRF, DNS rebinding). Their presence is
// enough, an empty value included. Spelled as net/textproto spells them.
var forwardedHeaders = []string{"X-Forwarded-For", "Forwarded", "Via", "Sec-Fetch-Site"}

// atDoor reports whether the request comes from a client on this machine that
// knows whom it is talking to: no forwarding header, and a Host that is
// localhost, a loopback address, or allowed by configuration. Any other Host is
// a name that somebody else's DNS led here. HTTP/1.0 may leave Host out; on a
// unix socket it may be anything.
func (s *settings) atDoor(r *request) bool {
	for _, name := range forwardedHeaders {
		if _, present := r.header.first(name); present {
			return false
		}
	}
	if r.peer != nil {
		return true // no name leads to a unix socket, so none can be turned on it
	}
	if r.host == "" {
		return r.http10
	}
	return s.hostAllowed(r.host)
}

func (s *settings) hostAllowed(host string) bool {
	name, port, ok := splitHost(host)
	if !ok {
		return false
	}
	if isLoopbackName(name) {
		return true
	}
	if len(s.hosts) == 0 {
		return false
	}
	name = strings.ToLower(name)
	return s.hosts[name] || port != "" && s.hosts[name+":"+port]
}

// isLoopbackName reports whether name is localhost or a loopback address in
// its usual notation. An address with a zone is none.
func isLoopbackName(name string) bool {
	if strings.EqualFold(name, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// splitHost splits a Host header into name and port (RFC 9110, 7.2). The name
// of an IPv6 address keeps its brackets.
func splitHost(host string) (name, port string, ok bool) {
	end := strings.IndexByte(host, ':')
	if strings.HasPrefix(host, "[") {
		end = strings.IndexByte(host, ']') + 1
		if end == 0 {
			return "", "", false
		}
	}
	if end < 0 || end == len(host) {
		return host, "", true
	}
	name, port = host[:end], host[end:]
	if port[0] != ':' || strings.Trim(port[1:], "0123456789") != "" {
		return "", "", false
	}
	return name, port[1:], true
}
