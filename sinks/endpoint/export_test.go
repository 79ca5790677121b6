package endpoint

// Polls returns how many requests wait for a change.
func (s *Server) Polls() int64 { return s.core.polls.Load() }
