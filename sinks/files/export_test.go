package files

// TempName returns a new temporary name for base, so that tests can lay what a
// killed agent leaves.
func TempName(base string) string { return tempName(tempKey(base)) }

// IsTempOf reports whether name is a temporary name for base.
func IsTempOf(name, base string) bool {
	key, ok := parseTemp(name)
	return ok && key == tempKey(base)
}

// Abandon leaves what was staged as an agent that is killed does.
func (s *Staged) Abandon() { s.letGo() }
