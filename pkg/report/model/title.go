// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"strings"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// shortID is how many digits of a container's id its runtime shows, and takes
	// for the whole; shortUID as many of a pod's.
	shortID  = 12
	shortUID = 8
	// mostName is how much of a runtime's name is shown, in characters.
	mostName = 128
)

// Title is what a person would call g: the container, pod or systemd unit that it
// is, or else its path, which begins with "/". In its Frame no other group has the
// same. It is raw: every sink escapes it.
func (g *CGroup) Title() string {
	if g.title != "" {
		return g.title
	}
	return g.ownTitle()
}

// titles makes those of all groups. Those that would look the same have their paths.
func titles(groups []*CGroup) {
	times := make(map[string]int, len(groups))
	for _, g := range groups {
		g.title = g.ownTitle()
		times[Printable(g.title)]++
	}
	for _, g := range groups {
		if times[Printable(g.title)] > 1 {
			g.title = rooted(g.Path)
		}
	}
}

func rooted(path string) string { return "/" + strings.TrimLeft(path, "/") }

func (g *CGroup) ownTitle() string {
	name, kind, below, machine := machineOf(g.Path)
	if c, ok := sample.ContainerOf(g.Path); ok {
		below = g.containerTitle(&c)
		if !machine {
			return below
		}
	}
	if machine {
		return withBelow(name, below) + " (" + kind + ")"
	}
	return cmp.Or(unitOf(g.Path), rooted(g.Path))
}

// containerTitle is "web-1 (docker)" or "shop/cart-6d9f/cart (pod)" by the runtime's
// own name for it, without that "docker 3f2a91c0b7de" or "pod 1b2c3d4e/3f2a91c0b7de".
func (g *CGroup) containerTitle(c *sample.Container) string {
	kind := cmp.Or(c.Runtime, "container")
	if c.Pod != "" {
		kind = "pod"
	}
	if name := strings.Trim(g.nameAbove(c), "/"); name != "" {
		return withBelow(WithoutMiddle(name, mostName), c.Below) + " (" + kind + ")"
	}
	short := c.ID[:min(len(c.ID), shortID)]
	if c.Pod != "" {
		short = strings.TrimSuffix(c.Pod[:shortUID]+"/"+short, "/")
	}
	return withBelow(kind+" "+short, c.Below)
}

// nameAbove is the name of the container whose group g is, or is in.
func (g *CGroup) nameAbove(c *sample.Container) string {
	for p := g; p != nil && len(p.Path) >= len(g.Path)-len(c.Below)-1; p = p.Parent {
		if p.Name != "" {
			return p.Name
		}
	}
	return ""
}

// WithoutMiddle keeps most characters: the end, which tells the most, and less of the
// beginning.
func WithoutMiddle(s string, most int) string {
	if len(s) <= most {
		return s
	}
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	const gap = "..."
	return string(r[:most/3]) + gap + string(r[len(r)-(most-most/3-len(gap)):])
}

func withBelow(name, below string) string {
	if below = strings.Trim(below, "/"); below != "" {
		return name + "/" + below
	}
	return name
}

// machineOf finds the system containers and virtual machines that have their name
// in the path: "lxc.payload.NAME", "lxc/NAME", "machine-NAME.scope", and
// "systemd-nspawn@NAME.service".
func machineOf(path string) (name, kind, below string, ok bool) {
	path = strings.TrimLeft(path, "/")
	if path, ok = strings.CutPrefix(path, "machine.slice/"); ok {
		unit, below, _ := strings.Cut(path, "/")
		for _, around := range [][2]string{{"machine-", ".scope"}, {"systemd-nspawn@", ".service"}} {
			name, begins := strings.CutPrefix(unit, around[0])
			name, ends := strings.CutSuffix(name, around[1])
			if begins && ends && name != "" {
				return unescape(name), "machine", below, true
			}
		}
		return "", "", "", false
	}
	for _, before := range []string{"lxc.payload.", "lxc.payload/", "lxc/"} {
		if rest, ok := strings.CutPrefix(path, before); ok {
			name, below, _ := strings.Cut(rest, "/")
			return name, "lxc", below, name != ""
		}
	}
	return "", "", "", false
}

// unitOf is the systemd unit whose group it is, with what is below it, and whose it
// is where that is a user's: "session-3.scope of user 1000". It is "" where others
// than systemd made the groups above it.
func unitOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	user, managed := "", false
	for i, part := range parts {
		last := i == len(parts)-1
		id := userIn(part, "user@", ".service")
		switch {
		case strings.HasSuffix(part, ".slice") && !last:
			if !managed { // who has a manager may name slices for others
				user = cmp.Or(userIn(part, "user-", ".slice"), user)
			}
			continue
		case id != "" && !last && !managed:
			user, managed = id, true
			continue
		case !isUnit(part):
			return ""
		}
		title := withBelow(shortIDs(unescape(part)), strings.Join(parts[i+1:], "/"))
		if user != "" && (id == "" || managed) {
			title += " of user " + user
		}
		return title
	}
	return ""
}

// shortIDs cuts what is as long as a hash to what is shown of an id.
func shortIDs(name string) string {
	const long = 32
	hex := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' }
	var out strings.Builder
	for i := 0; i < len(name); {
		n := 0
		for i+n < len(name) && hex(name[i+n]) {
			n++
		}
		if n >= long {
			out.WriteString(name[i : i+shortID])
		} else {
			n = max(n, 1)
			out.WriteString(name[i : i+n])
		}
		i += n
	}
	return out.String()
}

// userIn is the number of a user in the name of a unit.
func userIn(name, before, after string) string {
	id, ok := strings.CutPrefix(name, before)
	id, ends := strings.CutSuffix(id, after)
	if !ok || !ends || len(id) > 10 || strings.Trim(id, "0123456789") != "" {
		return ""
	}
	return id
}

// isUnit: of the types of units, these have groups (systemd.resource-control(5)).
func isUnit(name string) bool {
	before, kind, ok := cutLast(name, '.')
	if !ok || before == "" {
		return false
	}
	switch kind {
	case "service", "scope", "slice", "socket", "mount", "swap":
		return true
	}
	return false
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// unescape undoes systemd's \xNN (systemd.unit(5)) where that is a printable
// character of ASCII, and leaves the others as they are.
func unescape(name string) string {
	var out strings.Builder
	for {
		i := strings.Index(name, `\x`)
		if i < 0 || len(name) < i+4 {
			break
		}
		c, ok := hexByte(name[i+2], name[i+3])
		if !ok || c <= ' ' || c >= 0x7f || c == '/' || c == '\\' {
			out.WriteString(name[:i+2])
			name = name[i+2:]
			continue
		}
		out.WriteString(name[:i])
		out.WriteByte(c)
		name = name[i+4:]
	}
	return out.String() + name
}

func hexByte(hi, lo byte) (c byte, ok bool) {
	const digits = "0123456789abcdef"
	h, l := strings.IndexByte(digits, hi|0x20), strings.IndexByte(digits, lo|0x20)
	return byte(h<<4 | l), h >= 0 && l >= 0
}
