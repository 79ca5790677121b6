package config

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// listens is an address that something is to listen on.
type listens struct {
	key   string
	field *string
	up    []any
}

// listeners holds that no two of them want the same address.
func (v *validator) listeners() {
	var all []listens
	if e := v.c.Endpoint; e != nil && e.Listen != "" {
		all = append(all, listens{"endpoint.listen", &e.Listen, []any{&v.c.Endpoint}})
	}
	if t := v.c.Telemetry; t != nil {
		all = append(all, listens{"telemetry.listen", &t.Listen, []any{&v.c.Telemetry}})
	}
	if l := v.c.Source.Local; l != nil && l.Listen != "" {
		all = append(all, listens{"source.local.listen", &l.Listen, []any{&v.c.Source.Local, &v.c.Source}})
	}
	for i, l := range all {
		for _, other := range all[:i] {
			if sameAddress(*l.field, *other.field) {
				v.fault(l.field, l.up, "choose another port for one of the two", "%s: %s is taken by %s, %s", l.key, *l.field, other.key, *other.field)
				break
			}
		}
	}
}

// sameAddress reports whether nobody can listen on a while somebody listens on b:
// the port is the same, and the address too or one of the two that stand for all.
// Port 0 is any that is free, and a name that only a resolver knows is itself.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil {
		return false // which is said elsewhere
	}
	p, errA := strconv.ParseUint(portA, 10, 16)
	q, errB := strconv.ParseUint(portB, 10, 16)
	if errA != nil || errB != nil || p != q || p == 0 {
		return false
	}
	ipA, errA := boundTo(hostA)
	ipB, errB := boundTo(hostB)
	if errA != nil || errB != nil {
		return errA != nil && errB != nil && strings.EqualFold(hostA, hostB)
	}
	return ipA == ipB || ipA.IsUnspecified() || ipB.IsUnspecified()
}

// boundTo returns the address that is bound for a host. To Go 0.0.0.0 is both
// families, as :: is.
func boundTo(host string) (netip.Addr, error) {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(cmp.Or(host, "::"))
	return ip.Unmap(), err
}
