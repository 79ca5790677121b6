package endpoint

import (
	"slices"
	"sync"
)

// maxBodies is how many requests may have their bodies still to come. A body
// that was sent with its head, as SDKs do it, is there at once.
const maxBodies = 64

// bodies are the requests that wait for the rest of themselves. Who asks is known
// only by the whole, so that anybody can be among them: above the limit the one
// that has waited for longest is cut off, and whoever sends slowly crowds out
// himself.
type bodies struct {
	mu      sync.Mutex
	waiting []*post // oldest first
}

func (b *bodies) enter(p *post) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) >= maxBodies {
		// Under the lock, for once its request has left, its connection may be
		// another request's. It sets a deadline and does not block.
		b.waiting[0].cut()
		b.waiting = slices.Delete(b.waiting, 0, 1)
	}
	b.waiting = append(b.waiting, p)
}

// leave reports whether the request was cut off.
func (b *bodies) leave(p *post) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, p)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	return i < 0
}
