// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// couple is a subject in both recordings; one of them may be nil.
type couple struct{ a, b *subject }

// one is what is there, in A before B.
func (c couple) one() *subject { return cmp.Or(c.a, c.b) }

// match finds the subjects of A in B: by name, then listeners by port and by
// program, and cgroups without the ids in their names, where there is one only on
// either side that may be meant.
func match(a, b *Side) []couple {
	var out []couple
	var restA, restB []*subject
	for _, u := range ordered(a.subjects) {
		if v := b.subjects[subjectKey{u.kind, u.name}]; v != nil {
			out = append(out, couple{u, v})
		} else {
			restA = append(restA, u)
		}
	}
	for _, v := range ordered(b.subjects) {
		if a.subjects[subjectKey{v.kind, v.name}] == nil {
			restB = append(restB, v)
		}
	}
	type port struct {
		proto string
		port  uint16
	}
	for _, by := range []struct {
		kind kind
		key  func(u *subject) any
	}{
		{aListener, func(u *subject) any { return port{u.proto, u.port} }},
		{aListener, func(u *subject) any { return u.prog }},
		{aCGroup, func(u *subject) any { return withoutIDs(u.name) }},
	} {
		var found []couple
		found, restA, restB = unique(restA, restB, by.kind, by.key)
		out = append(out, found...)
	}
	for _, u := range restA {
		out = append(out, couple{a: u})
	}
	for _, v := range restB {
		out = append(out, couple{b: v})
	}
	slices.SortStableFunc(out, func(x, y couple) int {
		return cmp.Or(cmp.Compare(x.one().kind, y.one().kind), cmp.Compare(x.one().name, y.one().name))
	})
	return out
}

// unique couples the subjects of a kind that alone have a key on both sides, and
// returns the others.
func unique(as, bs []*subject, of kind, key func(u *subject) any) (found []couple, restA, restB []*subject) {
	index := func(us []*subject) map[any][]*subject {
		m := make(map[any][]*subject)
		for _, u := range us {
			if u.kind == of && u.prog != "?" && u.proto != "unix" {
				m[key(u)] = append(m[key(u)], u)
			}
		}
		return m
	}
	inA, inB := index(as), index(bs)
	taken := make(map[*subject]bool)
	for _, u := range as {
		if u.kind != of || len(inA[key(u)]) != 1 || len(inB[key(u)]) != 1 {
			continue
		}
		v := inB[key(u)][0]
		found = append(found, couple{u, v})
		taken[u], taken[v] = true, true
	}
	gone := func(u *subject) bool { return taken[u] }
	return found, slices.DeleteFunc(as, gone), slices.DeleteFunc(bs, gone)
}

func ordered(m map[subjectKey]*subject) []*subject {
	return slices.SortedFunc(maps.Values(m), func(x, y *subject) int {
		return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.name, y.name))
	})
}

// withoutIDs has a # for each part of a cgroup's name that is a number or looks
// like a hash: a container or unit that is made anew has another one.
func withoutIDs(name string) string {
	var out strings.Builder
	for len(name) > 0 {
		n := strings.IndexAny(name, "-_./ :")
		if n < 0 {
			n = len(name)
		}
		part := name[:n]
		if strings.Trim(part, "0123456789abcdef") == "" && strings.ContainsAny(part, "0123456789") {
			part = "#"
		}
		out.WriteString(part)
		out.WriteString(name[n:min(n+1, len(name))])
		name = name[min(n+1, len(name)):]
	}
	return out.String()
}
