package agent

import (
	"runtime/debug"
	"runtime/metrics"
)

// worthGiving is how much free memory the runtime may keep for itself, in bytes.
const worthGiving = 2 << 20

// giveBack returns memory to the system that the start or a burst of requests has
// needed and nothing needs now. The runtime does so by itself, but only above its
// goal and over minutes; in a pod all that is resident is paid for. It costs a
// collection, a few milliseconds, and only where there is something to give.
func giveBack() {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(samples)
	free := uint64(0)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			free += s.Value.Uint64()
		}
	}
	if free > worthGiving {
		debug.FreeOSMemory()
	}
}
