// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	names := []string{
		"linux-image-5.10.0-9-cloud-amd64", "linux-image-5.10.0-46-cloud-amd64", "linux-image-5.10.0-46-cloud-amd64-unsigned",
		"linux-image-5.10.0-46-amd64", "linux-image-5.10.0-46-cloud-amd64-dbg", "linux-image-cloud-amd64",
		"linux-image-6.1.0-0.deb11.52-cloud-amd64-unsigned",
		"linux-image-6.12.107+deb13-cloud-amd64", "linux-image-6.12.117+deb13-cloud-amd64-unsigned", "linux-image-6.12.117+deb13.1-cloud-amd64",
		"linux-image-6.19.14+deb13-cloud-amd64", "linux-binary-6.19.14+deb13-cloud-amd64", // modules are gone
		"linux-image-7.3.4+deb13-cloud-amd64", "linux-binary-7.3.4+deb13-cloud-amd64", "linux-modules-7.3.4+deb13-cloud-amd64",
		"linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
		"linux-binary-unsigned-7.3.4+deb13-cloud-arm64", "linux-modules-7.3.4+deb13-cloud-arm64",
	}
	for _, tt := range []struct{ release, arch, want string }{
		{`5\.10`, "amd64", "5.10.0-46: linux-image-5.10.0-46-cloud-amd64"},
		{`6\.12`, "amd64", "6.12.117+deb13.1: linux-image-6.12.117+deb13.1-cloud-amd64"},
		{`[0-9]+\.[0-9]+`, "amd64", "7.3.4+deb13: linux-binary-7.3.4+deb13-cloud-amd64 linux-modules-7.3.4+deb13-cloud-amd64"},
		{`[0-9]+\.[0-9]+`, "arm64", "7.3.4+deb13: linux-binary-unsigned-7.3.4+deb13-cloud-arm64 linux-modules-7.3.4+deb13-cloud-arm64"},
	} {
		for range 2 { // whatever the order
			set, err := resolve(series{release: tt.release}, tt.arch, names)
			if err != nil {
				t.Errorf("%s %s: %v", tt.release, tt.arch, err)
			} else if got := set.release + ": " + strings.Join(set.names, " "); got != tt.want {
				t.Errorf("%s %s: got %s, want %s", tt.release, tt.arch, got, tt.want)
			}
			slices.Reverse(names)
		}
	}
	if set, err := resolve(series{name: "4.19", release: `4\.19`}, "amd64", names); err == nil {
		t.Errorf("4.19: got %v, want an error", set)
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"", "5.9.1", "5.10.0-9", "5.10.0-46", "6.1.0-56", "6.12.107+deb13", "6.12.117+deb13", "6.12.117+deb13.1", "7.3.4", "10.0.1"}
	for i, a := range sorted {
		for k, b := range sorted {
			if got := compareVersions(a, b); got < 0 != (i < k) || got > 0 != (i > k) {
				t.Errorf("compareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestPackageNames(t *testing.T) {
	got, err := packageNames(strings.NewReader("Package: a\nVersion: 1\nProvides: b\n\nPackage: c\n"))
	if err != nil || !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("got %v, %v", got, err)
	}
}
