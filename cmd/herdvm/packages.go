// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// series is a kernel series, and the Debian suite that has its packages.
type series struct {
	name    string // as in the table: the newest point release stands for all
	release string // regular expression of the series
	suite   string
}

// allSeries are the kernels that herdtrace must work on. Each is the cloud
// flavour: small, and without what a virtual machine has no use for.
var allSeries = []series{
	{"5.10", `5\.10`, "bullseye-security"},
	{"6.1", `6\.1`, "bookworm-security"},
	{"6.12", `6\.12`, "trixie-security"},
	{"6.18", `6\.18`, "trixie-backports"},
	{"newest", `[0-9]+\.[0-9]+`, "trixie-backports"},
}

func seriesOf(name string) (series, error) {
	for _, s := range allSeries {
		if s.name == name {
			return s, nil
		}
	}
	return series{}, fmt.Errorf("find kernel series %s: there is none of that name", name)
}

// packageSet is what to download for one kernel.
type packageSet struct {
	release string   // as uname says it, without the flavour
	names   []string // the one with the kernel image first
}

// packageNames reads the names in the output of apt-cache dumpavail. What is
// only provided by others is not there.
func packageNames(r io.Reader) ([]string, error) {
	var names []string
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		if name, ok := strings.CutPrefix(sc.Text(), "Package: "); ok {
			names = append(names, name)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read the package list: %w", err)
	}
	return names, nil
}

// resolve finds the newest kernel of a series among names. Up to 6.18 image and
// modules are one package; later linux-image is empty, linux-binary has the image
// and linux-modules the modules.
func resolve(s series, arch string, names []string) (*packageSet, error) {
	re := regexp.MustCompile(`^linux-(image|binary)(?:-unsigned)?-(` + s.release + `\.[0-9][0-9.+a-z-]*?)-cloud-` + arch + `(?:-unsigned)?$`)
	best, image := "", ""
	binary := false
	for _, name := range names {
		m := re.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		isBinary := m[1] == "binary"
		if isBinary && !slices.Contains(names, modulesOf(m[2], arch)) {
			continue // an old one, of which the archive kept only this
		}
		switch c := compareVersions(m[2], best); {
		case c < 0:
			continue
		case c == 0 && (binary && !isBinary || binary == isBinary && len(name) >= len(image)):
			continue // the signed one, which has the shorter name
		}
		best, image, binary = m[2], name, isBinary
	}
	if image == "" {
		return nil, fmt.Errorf("find a package of kernel %s for %s: suite %s has none (of %d packages)", s.name, arch, s.suite, len(names))
	}
	set := &packageSet{release: best, names: []string{image}}
	if binary {
		set.names = append(set.names, modulesOf(best, arch))
	}
	return set, nil
}

func modulesOf(release, arch string) string { return "linux-modules-" + release + "-cloud-" + arch }

// compareVersions compares what is between digits as text, and digits as numbers.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		ta, na, restA := cutNumber(a)
		tb, nb, restB := cutNumber(b)
		if c := strings.Compare(ta, tb); c != 0 {
			return c
		}
		if c := len(na) - len(nb); c != 0 {
			return c
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return len(a) - len(b)
}

// cutNumber splits s into what is before the first number, that number without
// leading zeros, and the rest.
func cutNumber(s string) (text, number, rest string) {
	digit := func(r rune) bool { return r >= '0' && r <= '9' }
	i := strings.IndexFunc(s, digit)
	if i < 0 {
		return s, "", ""
	}
	end := strings.IndexFunc(s[i:], func(r rune) bool { return !digit(r) })
	if end < 0 {
		end = len(s) - i
	}
	return s[:i], strings.TrimLeft(s[i:i+end], "0"), s[i+end:]
}
