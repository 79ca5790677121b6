package local

import (
	"regexp"
	"strings"
)

// fullARN matches an ARN's resource that ends as one with the six random
// characters does.
var fullARN = regexp.MustCompile(`-[A-Za-z0-9]{6}$`)

// find returns the secret of an id, with the service locked: a name, an ARN, or
// an ARN without its last seven characters. An ARN whose name itself ends in a
// hyphen and six characters is taken for a whole one and not found without its
// own suffix, as recorded and as the reference warns.
func (s *Service) find(id string) (*entry, *apiError) {
	if !strings.HasPrefix(id, "arn:") {
		if err := checkName(id); err != nil {
			return nil, err
		}
		if e := s.live(id); e != nil {
			return e, nil
		}
		return nil, errNoSecret()
	}
	resource, ok := strings.CutPrefix(id, s.arnPrefix)
	if !ok {
		return nil, errNoSecret()
	}
	name, whole := resource, fullARN.MatchString(resource)
	if whole {
		name = resource[:len(resource)-7]
	}
	if e := s.live(name); e != nil && (!whole || e.arn == id) {
		return e, nil
	}
	return nil, errNoSecret()
}

// findUsable is find for operations that a secret marked for deletion refuses.
func (s *Service) findUsable(id string) (*entry, *apiError) {
	e, err := s.find(id)
	if err == nil && e.deletion != nil {
		return nil, errDeleted()
	}
	return e, err
}

// live returns the secret of that name, or nil. One whose recovery window has
// ended is dropped: that is when it ceases to exist.
func (s *Service) live(name string) *entry {
	e := s.secrets[name]
	if e != nil && e.deletion != nil && !s.now().Before(*e.deletion) {
		delete(s.secrets, name)
		return nil
	}
	return e
}

// add makes an empty secret with a fresh ARN.
func (s *Service) add(name string) *entry {
	now := s.now()
	s.created++
	e := &entry{
		name:    name,
		arn:     s.arnPrefix + name + "-" + s.suffix(),
		seq:     s.created,
		created: now,
		changed: now,
		stages:  map[string]string{},
	}
	s.secrets[name] = e
	return e
}
