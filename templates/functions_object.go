package templates

import "maps"

func objectRows() []row {
	return []row{
		{names: "dict", args: "KEY VALUE...", doc: "An object.", example: `{{ dict "a" 1 "b" 2 | json }}`, result: `{"a":1,"b":2}`, fn: dict},
		{names: "get", args: "OBJECT KEY", doc: "The field KEY, or nothing if there is none.", example: `{{ get (secret "db") "user" }}{{ get (secret "db") "x" }}`, result: "app",
			fn: func(m map[string]any, key string) any {
				if v, ok := m[key]; ok {
					return v
				}
				return ""
			}},
		{names: "hasKey", args: "OBJECT KEY", doc: "Whether OBJECT has KEY.", example: `{{ hasKey (secret "db") "tls" }}`, result: "true",
			fn: func(m map[string]any, key string) bool { _, ok := m[key]; return ok }},
		{names: "dig", args: "KEY... FALLBACK OBJECT", doc: "The field under a path of keys, or FALLBACK if one of them is absent.", example: `{{ dig "tls" "ca" "none" (secret "db") }} {{ dig "tls" "key" "none" (secret "db") }}`, result: "CA none", fn: dig, min: 3},
		{names: "keys", args: "OBJECT...", doc: "The keys, sorted.", example: `{{ keys (secret "gcp") | json }}`, result: `["type"]`, fn: keys},
		{names: "values", args: "OBJECT", doc: "The values in the order of their keys.", example: `{{ values (dict "b" 2 "a" 1) | json }}`, result: "[1,2]",
			fn: func(m map[string]any) []any {
				out := make([]any, 0, len(m))
				for _, k := range sortedKeys(m) {
					out = append(out, m[k])
				}
				return out
			}},
		{names: "pluck", args: "KEY OBJECT...", doc: "The field KEY of each OBJECT that has it.", example: `{{ pluck "a" (dict "a" 1) (dict "b" 2) | json }}`, result: "[1]",
			fn: func(key string, objects ...map[string]any) []any {
				out := []any{}
				for _, m := range objects {
					if v, ok := m[key]; ok {
						out = append(out, v)
					}
				}
				return out
			}},
		{names: "pick", args: "OBJECT KEY...", doc: "A new object with only these keys.", example: `{{ pick (secret "db") "user" "port" | json }}`, result: `{"port":5432,"user":"app"}`,
			fn: func(m map[string]any, only ...string) map[string]any {
				out := make(map[string]any)
				for _, k := range only {
					if v, ok := m[k]; ok {
						out[k] = v
					}
				}
				return out
			}},
		{names: "omit", args: "OBJECT KEY...", doc: "A new object without these keys.", example: `{{ omit (dict "a" 1 "b" 2) "a" | json }}`, result: `{"b":2}`,
			fn: func(m map[string]any, not ...string) map[string]any {
				out := maps.Clone(m)
				for _, k := range not {
					delete(out, k)
				}
				return out
			}},
		{names: "set", args: "OBJECT KEY VALUE", doc: "OBJECT with the field set, in place for an object that dict made.", example: `{{ $d := dict }}{{ $_ := set $d "a" 1 }}{{ json $d }}`, result: `{"a":1}`,
			fn: func(m map[string]any, key string, v any) map[string]any { m[key] = v; return m }},
		{names: "unset", args: "OBJECT KEY", doc: "OBJECT without the field, in place for an object that dict made.", example: `{{ unset (dict "a" 1) "a" | json }}`, result: `{}`,
			fn: func(m map[string]any, key string) map[string]any { delete(m, key); return m }},
		{names: "merge mustMerge", args: "OBJECT OTHER...", doc: "OBJECT with what it lacks or has empty taken from the others, in depth; in place for an object that dict made.",
			example: `{{ merge (dict "a" 1) (dict "a" 2 "b" 3) | json }}`, result: `{"a":1,"b":3}`,
			fn: func(m map[string]any, others ...map[string]any) (map[string]any, error) {
				return mergeAll(m, others, false)
			}},
		{names: "mergeOverwrite mustMergeOverwrite", args: "OBJECT OTHER...", doc: "OBJECT with what the others hold, in depth; in place for an object that dict made.",
			example: `{{ mergeOverwrite (dict "a" 1) (dict "a" 2 "b" 3) | json }}`, result: `{"a":2,"b":3}`,
			fn: func(m map[string]any, others ...map[string]any) (map[string]any, error) {
				return mergeAll(m, others, true)
			}},
		{names: "deepCopy mustDeepCopy", args: "VALUE", doc: "A copy in depth.", example: `{{ deepCopy (dict "a" 1) | json }}`, result: `{"a":1}`, fn: plain},
	}
}

func dict(pairs ...any) (map[string]any, error) {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, err := asText(pairs[i])
		if err != nil {
			return nil, err
		}
		m[key] = ""
		if i+1 < len(pairs) {
			m[key] = pairs[i+1]
		}
	}
	return m, nil
}

func dig(args ...any) (any, error) {
	n := len(args)
	v, fallback := args[n-1], args[n-2]
	for _, a := range args[:n-2] {
		key, err := asText(a)
		if err != nil {
			return nil, err
		}
		m, ok := asMap(v)
		if !ok {
			return nil, fail("a " + kind(v) + " is given where an object is needed")
		}
		if v, ok = m[key]; !ok {
			return fallback, nil
		}
	}
	return v, nil
}

func keys(objects ...map[string]any) []string {
	out := []string{}
	for _, m := range objects {
		out = append(out, sortedKeys(m)...)
	}
	return out
}

func mergeAll(m map[string]any, others []map[string]any, overwrite bool) (map[string]any, error) {
	left := maxList
	for _, o := range others {
		if err := merge(m, o, overwrite, &left, 0); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// merge follows mergo, which sprig uses: what is empty never replaces anything.
func merge(into, from map[string]any, overwrite bool, left *int, depth int) error {
	if depth > maxNesting {
		return errTooDeep
	}
	for _, k := range sortedKeys(from) {
		if *left--; *left < 0 {
			return errTooBig
		}
		have, isMap := asMap(into[k])
		more, alsoMap := asMap(from[k])
		switch _, exists := into[k]; {
		case isMap && alsoMap:
			if _, json := into[k].(*object); json {
				have = maps.Clone(have)
				into[k] = have
			}
			if err := merge(have, more, overwrite, left, depth+1); err != nil {
				return err
			}
		case !exists, overwrite && truth(from[k]), !overwrite && !truth(into[k]):
			into[k] = from[k]
		}
	}
	return nil
}
