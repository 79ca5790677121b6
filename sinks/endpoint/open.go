package endpoint

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Connections are the open connections of any number of listeners, which share
// one limit. Above it the one whose client has kept us waiting for longest is
// closed, with a request, for the rest of one or for an answer to be taken, so
// that whoever opens connections and does nothing only crowds out himself. Its
// methods may be called from any goroutine.
type Connections struct {
	limit   atomic.Int64
	evicted atomic.Uint64
	refused atomic.Uint64
	epoch   time.Time

	mu   sync.Mutex // never held across I/O
	open map[*tracked]struct{}
	// period is how often timeouts are looked at; sweeping, whether they are:
	// only while a connection is open.
	period   time.Duration
	sweeping bool
}

// sweepPeriod is how late a timeout may be noticed. A timer for each connection
// and request would cost more than the request.
const sweepPeriod = time.Second

// NewConnections returns an empty set with room for limit connections.
func NewConnections(limit int) *Connections {
	c := &Connections{epoch: time.Now(), open: map[*tracked]struct{}{}, period: sweepPeriod}
	c.SetLimit(limit)
	return c
}

// SetLimit changes how many connections there may be, at least one. Those above
// it go when the next ones come.
func (c *Connections) SetLimit(limit int) { c.limit.Store(int64(max(limit, 1))) }

// Open returns how many connections are open.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Evicted returns how many waiting connections were closed to make room.
func (c *Connections) Evicted() uint64 { return c.evicted.Load() }

// Refused returns how many new connections were closed because there was no
// room, and on all others a request was being answered.
func (c *Connections) Refused() uint64 { return c.refused.Load() }

// Limit returns l with its connections in the set. It is for an [http.Server]
// that has [Connections.State] as its ConnState, and whose timeouts are its own
// matter.
func (c *Connections) Limit(l net.Listener) net.Listener { return &limitedListener{l, c} }

type limitedListener struct {
	net.Listener
	all *Connections
}

// Accept returns the next connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if l.all.relieve(err) {
				continue
			}
			return nil, err
		}
		if t := l.all.admit(conn, nil, nil); t != nil {
			return t, nil
		}
	}
}

// State is the ConnState of an [http.Server] whose connections are in the set.
// What such a server is doing it does not tell apart from waiting for a body or
// for its answer to be taken, so that one of [Connections.Limit] counts as
// waiting since its last request came or was over.
func (c *Connections) State(conn net.Conn, state http.ConnState) {
	t, ok := conn.(*tracked)
	if !ok {
		return
	}
	if state == http.StateIdle || state == http.StateActive && t.owner == nil {
		t.enter(handedWaits, time.Now())
	}
}

// phase is what a connection is doing.
type phase int64

const (
	waitsForHead phase = iota // its first head, or the rest of one
	waitsIdle                 // nothing yet of a further request
	busy                      // a request is being answered
	writes                    // the client is to take the answer
	handedWaits               // net/http has it and waits for a head
	handedBusy                // net/http has it and a request is being answered
	handedHalf                // net/http has it and the client is to send the rest of a request, or to take the answer
	closing                   // somebody else is closing it; final
	phaseBits    = 3
)

// waits reports whether the client is to go on, in which case its connection is
// given up where there are too many.
func (p phase) waits() bool { return p != busy && p != handedBusy && p != closing }

func phaseOf(state int64) phase { return phase(state & (1<<phaseBits - 1)) }

// tracked is a connection of the set.
type tracked struct {
	net.Conn
	all *Connections
	// owner is the server that answers it, which looks at its timeouts; nil where
	// net/http does.
	owner *Server
	peer  *Peer
	// pending are bytes that were read before net/http got the connection.
	pending []byte
	// now is the phase, and in the bits above since when, in microseconds after
	// the set's epoch.
	now atomic.Int64
}

// admit takes conn into the set, at the cost of those that have waited for
// longest if the set is full. It returns nil, with conn closed, if all others are
// busy.
func (c *Connections) admit(conn net.Conn, owner *Server, peer *Peer) *tracked {
	t := &tracked{Conn: conn, all: c, owner: owner, peer: peer}
	first := waitsForHead
	if owner == nil {
		first = handedWaits
	}
	t.enter(first, time.Now())
	victims, admitted := c.makeRoom(t)
	c.evicted.Add(uint64(len(victims)))
	for _, victim := range victims {
		_ = victim.Conn.Close()
	}
	if !admitted {
		c.refused.Add(1)
		_ = conn.Close()
		return nil
	}
	return t
}

// makeRoom takes t into the set if there is room for it then, and returns those
// that were taken out, for the caller to close.
func (c *Connections) makeRoom(t *tracked) (victims []*tracked, admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for int64(len(c.open)) >= c.limit.Load() {
		victim := c.takeOldest()
		if victim == nil {
			break
		}
		victims = append(victims, victim)
	}
	// Above a limit that was lowered it is one for one.
	if len(victims) == 0 && int64(len(c.open)) >= c.limit.Load() {
		return nil, false
	}
	c.open[t] = struct{}{}
	c.sweepLater()
	return victims, true
}

// relieve closes the connection waiting for longest if err says that there are no
// descriptors or no memory left for another, and reports whether it is worth
// accepting again at once.
func (c *Connections) relieve(err error) bool {
	if !isShortage(err) {
		return false
	}
	c.mu.Lock()
	victim := c.takeOldest()
	c.mu.Unlock()
	if victim == nil {
		return false
	}
	c.evicted.Add(1)
	_ = victim.Conn.Close()
	return true
}

// takeOldest takes the connection out of the set that has waited for its client
// for longest, for the caller to close; nil if none waits. c.mu is held.
func (c *Connections) takeOldest() *tracked {
	for range 8 { // one that has just become busy is passed over for the next
		var oldest *tracked
		var state int64
		for t := range c.open {
			now := t.now.Load()
			if phaseOf(now).waits() && (oldest == nil || now>>phaseBits < state>>phaseBits) {
				oldest, state = t, now
			}
		}
		if oldest == nil {
			return nil
		}
		if oldest.leave(state) {
			delete(c.open, oldest)
			return oldest
		}
	}
	return nil
}

// sweepLater has timeouts looked at soon. c.mu is held.
func (c *Connections) sweepLater() {
	if !c.sweeping {
		c.sweeping = true
		time.AfterFunc(c.period, c.sweep)
	}
}

// sweepOften has timeouts as short as d noticed in time.
func (c *Connections) sweepOften(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.period = min(c.period, max(d/4, time.Millisecond))
}

// sweep closes the connections whose time is up.
func (c *Connections) sweep() {
	var late []*tracked
	c.mu.Lock()
	now := time.Since(c.epoch).Microseconds()
	for t := range c.open {
		if t.late(now) {
			late = append(late, t)
			delete(c.open, t)
		}
	}
	c.sweeping = false
	if len(c.open) > 0 {
		c.sweepLater()
	}
	c.mu.Unlock()
	for _, t := range late {
		_ = t.Conn.Close()
	}
}

// late reports whether the connection has been in its phase for too long, and
// then nobody but the caller closes it.
func (t *tracked) late(now int64) bool {
	if t.owner == nil {
		return false
	}
	state := t.now.Load()
	var limit time.Duration
	switch phaseOf(state) {
	case waitsForHead:
		limit = t.owner.timeouts.ReadHeader
	case waitsIdle:
		limit = t.owner.timeouts.Idle
	case busy, writes:
		limit = t.owner.timeouts.Write
	default:
		return false
	}
	return now-state>>phaseBits >= limit.Microseconds() && t.leave(state)
}

// enter begins a phase at now. It returns false if somebody is closing the
// connection.
func (t *tracked) enter(p phase, now time.Time) bool {
	next := now.Sub(t.all.epoch).Microseconds()<<phaseBits | int64(p)
	for {
		old := t.now.Load()
		if phaseOf(old) == closing {
			return false
		}
		if t.now.CompareAndSwap(old, next) {
			return true
		}
	}
}

// leave ends the connection's life if its phase is still that of state, and
// reports whether it was: then the caller closes it.
func (t *tracked) leave(state int64) bool {
	return t.now.CompareAndSwap(state, state&^(1<<phaseBits-1)|int64(closing))
}

// Read returns what was read before, then what comes.
func (t *tracked) Read(b []byte) (int, error) {
	if len(t.pending) == 0 {
		return t.Conn.Read(b)
	}
	n := copy(b, t.pending)
	if t.pending = t.pending[n:]; len(t.pending) == 0 {
		t.pending = nil
	}
	return n, nil
}

// CloseWrite is there for net/http, which ends its side first when a client is
// still sending what it does not want to read.
func (t *tracked) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close closes the connection and takes it out of the set.
func (t *tracked) Close() error {
	t.all.mu.Lock()
	delete(t.all.open, t)
	t.all.mu.Unlock()
	return t.Conn.Close()
}

// closeIdle closes the connections of owner on which no request is under way.
func (c *Connections) closeIdle(owner *Server) {
	c.closeAll(owner, waitsForHead, waitsIdle, handedWaits)
}

// closeAll closes the connections of owner that are in one of the phases.
func (c *Connections) closeAll(owner *Server, phases ...phase) {
	var taken []*tracked
	c.mu.Lock()
	for t := range c.open {
		state := t.now.Load()
		if t.owner == owner && slices.Contains(phases, phaseOf(state)) && t.leave(state) {
			taken = append(taken, t)
			delete(c.open, t)
		}
	}
	c.mu.Unlock()
	for _, t := range taken {
		_ = t.Conn.Close()
	}
}
