// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	someID  = "3f2a91c0b7de4f5a8b9c0d1e2f3a4b5c6d7e8f901a2b3c4d5e6f708192a3b4c5"
	someUID = "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"
)

func TestTitle(t *testing.T) {
	kube := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(someUID, "-", "_") + ".slice"
	for _, tt := range []struct{ path, name, want string }{
		// containers and pods
		{"/system.slice/docker-" + someID + ".scope", "web-1", "web-1 (docker)"},
		{"/system.slice/docker-" + someID + ".scope", "", "docker 3f2a91c0b7de"},
		{"/docker/" + someID + "/init.scope", "", "docker 3f2a91c0b7de/init.scope"},
		{"/machine.slice/libpod-" + someID + ".scope", "db", "db (podman)"},
		{"/mine/" + someID, "", "container 3f2a91c0b7de"},
		{kube + "/cri-containerd-" + someID + ".scope", "shop/cart-6d9f/cart", "shop/cart-6d9f/cart (pod)"},
		{kube + "/crio-" + someID + ".scope", "", "pod 1b2c3d4e/3f2a91c0b7de"},
		{kube, "shop/cart-6d9f", "shop/cart-6d9f (pod)"},
		{kube, "", "pod 1b2c3d4e"},
		{"/docker/" + someID, "///", "docker 3f2a91c0b7de"},
		{"/docker/" + someID, "a\x1b[2J\nb", "a\x1b[2J\nb (docker)"}, // raw
		{"/docker/" + someID, strings.Repeat("語", 4096), strings.Repeat("語", 42) + "..." + strings.Repeat("語", 83) + " (docker)"},
		{"/docker/" + someID, strings.Repeat("語", 128), strings.Repeat("語", 128) + " (docker)"},
		// system containers and virtual machines
		{"/lxc.payload.web", "", "web (lxc)"},
		{"/lxc/101/ns/system.slice/nginx.service", "", "101/ns/system.slice/nginx.service (lxc)"},
		{"/lxc.monitor.web", "", "/lxc.monitor.web"},
		{`/machine.slice/machine-qemu\x2d1\x2dvm1.scope/libvirt/emulator`, "", "qemu-1-vm1/libvirt/emulator (machine)"},
		{"/machine.slice/machine-box.scope", "", "box (machine)"},
		{"/machine.slice/systemd-nspawn@box.service/payload", "", "box/payload (machine)"},
		{"/machine.slice/systemd-nspawn@.service/payload", "", "systemd-nspawn@.service/payload"},
		// and the containers in them
		{"/lxc.payload.web/system.slice/docker-" + someID + ".scope/a", "", "web/docker 3f2a91c0b7de/a (lxc)"},
		{"/lxc/101/ns/kubepods/pod" + someUID + "/" + someID, "", "101/pod 1b2c3d4e/3f2a91c0b7de (lxc)"},
		{"/machine.slice/systemd-nspawn@box.service/payload/machine.slice/libpod-" + someID + ".scope", "db", "box/db (podman) (machine)"},
		// units
		{"/system.slice/api.service", "", "api.service"},
		{"/system.slice/api.service", "web-1", "api.service"}, // no container
		{"/system.slice/api.service/worker", "", "api.service/worker"},
		{`/system.slice/system-systemd\x2dfsck.slice/systemd-fsck@dev-disk-by\x2duuid-1\x2d2.service`, "", "systemd-fsck@dev-disk-by-uuid-1-2.service"},
		{`/system.slice/a\x1b\x20\x5c\x2.service`, "", `a\x1b\x20\x5c\x2.service`},
		{"/system.slice/postgresql@15-main.service", "", "postgresql@15-main.service"},
		{"/system.slice", "", "system.slice"},
		{"/init.scope", "", "init.scope"},
		{"/system.slice/libpod-conmon-" + someID + ".scope", "", "libpod-conmon-3f2a91c0b7de.scope"},
		{"/user.slice/user-1000.slice", "", "user-1000.slice"},
		{"/user.slice/user-1000.slice/session-3.scope", "", "session-3.scope of user 1000"},
		{"/user.slice/user-1000.slice/user@1000.service", "", "user@1000.service"},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", "", "app-x.service of user 1000"},
		{"/user.slice/user-1000.slice/user@1000.service/init.scope", "", "init.scope of user 1000"},
		// what a user makes is not another's, nor the system's
		{"/user.slice/user-1000.slice/user@1000.service/user-0.slice/a.service", "", "a.service of user 1000"},
		{"/user.slice/user-1000.slice/user@1000.service/user@0.service/a.service", "", "user@0.service/a.service of user 1000"},
		{"/mine/api.service", "", "/mine/api.service"},
		// neither
		{"/", "", "/"}, {"", "", "/"}, {"/batch/a", "", "/batch/a"}, {"/.service", "", "/.service"}, {"/a.b", "", "/a.b"}, {"a", "", "/a"}, {"//x//", "", "/x//"},
	} {
		g := CGroup{CGroup: sample.CGroup{Path: tt.path, Name: tt.name}}
		if got := g.Title(); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.path, tt.name, got, tt.want)
		}
	}
}

// at is a group with a path and a name.
func at(id, parent uint64, path, name string) sample.CGroup {
	return sample.CGroup{ID: id, ParentID: parent, Path: path, Name: name}
}

// TestTitles: no two groups of a Frame are called the same, and what is in a
// container has its name.
func TestTitles(t *testing.T) {
	other := "3f2a91c0b7de" + strings.Repeat("0", 52)
	s := grouped(1,
		at(1, 0, "/", ""), at(2, 1, "/system.slice", ""), at(3, 2, "/system.slice/api.service", ""),
		at(4, 1, "/user.slice/user-1.slice/user@1.service/a.slice/x.service", ""), at(5, 1, "/user.slice/user-1.slice/user@1.service/b.slice/x.service", ""),
		at(6, 1, "/docker/"+someID, "web"), at(7, 6, "/docker/"+someID+"/sub", ""),
		at(8, 1, "/system.slice/docker-"+other+".scope", "web"),
		at(9, 1, "/mine/"+someID, ""), at(10, 1, "/mine/"+other, ""),
		at(11, 1, "/docker/"+strings.Repeat("a", 64), "b\x01"), at(12, 1, "/docker/"+strings.Repeat("b", 64), "b\x02"),
	)
	s.Events = []sample.Event{{Kind: sample.EventThrottle, CGroupID: 7, CGroup: "/docker/" + someID + "/sub"}, {Kind: sample.EventThrottle, CGroupID: 99, CGroup: "/system.slice/gone.service"}, {}}
	f := frames(s)[0]
	want := map[uint64]string{
		1: "/", 2: "system.slice", 3: "api.service", 4: "/user.slice/user-1.slice/user@1.service/a.slice/x.service", 5: "/user.slice/user-1.slice/user@1.service/b.slice/x.service",
		6: "/docker/" + someID, 7: "web/sub (docker)", 8: "/system.slice/docker-" + other + ".scope", 9: "/mine/" + someID, 10: "/mine/" + other,
		11: "/docker/" + strings.Repeat("a", 64), 12: "/docker/" + strings.Repeat("b", 64),
	}
	for _, g := range f.CGroups {
		if g.Title() != want[g.ID] {
			t.Errorf("%s: %q, want %q", g.Path, g.Title(), want[g.ID])
		}
	}
	for i, want := range []string{"web/sub (docker)", "gone.service", ""} {
		if got := f.Events[i].Group; got != want {
			t.Errorf("event of %q, want %q", got, want)
		}
	}
}

// TestTitlesOfGone: an event of a group that is not listed any more has the title
// that it had, unless its id is another's by now.
func TestTitlesOfGone(t *testing.T) {
	path := "/docker/" + someID
	of := func(id uint64, path string) sample.Event {
		return sample.Event{Kind: sample.EventThrottle, CGroupID: id, CGroup: path}
	}
	late := grouped(3, at(1, 0, "/", ""))
	late.Events = []sample.Event{of(2, path), of(2, ""), of(2, "/system.slice/api.service"), of(3, path), of(3, "")}
	f := frames(grouped(1, at(1, 0, "/", ""), at(2, 1, path, "web")), grouped(2), late)[2]
	for i, want := range []string{"web (docker)", "web (docker)", "api.service", "docker 3f2a91c0b7de", ""} {
		if got := f.Events[i].Group; got != want {
			t.Errorf("event %d: %q, want %q", i, got, want)
		}
	}
}

// FuzzTitle: whatever a group is called, its title is something, is text if its path
// and name are, and only a path looks like one.
func FuzzTitle(f *testing.F) {
	for _, path := range []string{"/docker/" + someID + "/a", "/kubepods/pod" + someUID + "/" + someID, "/user.slice/user-1.slice/user@1.service/a.slice/b.scope", `/machine.slice/machine-\x2d\xff.scope`, "/lxc/x/"} {
		f.Add(path, "")
		f.Add(path, "n/\x1b")
	}
	f.Fuzz(func(t *testing.T, path, name string) {
		g := CGroup{CGroup: sample.CGroup{Path: path, Name: name}}
		title := g.Title()
		if title == "" || utf8.ValidString(path) && utf8.ValidString(name) && !utf8.ValidString(title) {
			t.Errorf("%q, %q: %q", path, name, title)
		}
		if strings.HasPrefix(title, "/") && title != rooted(path) {
			t.Errorf("%q, %q: %q is no path of its", path, name, title)
		}
		if p := Printable(title); strings.ContainsAny(p, "\n\x1b") {
			t.Errorf("%q", p)
		}
	})
}

func BenchmarkTitles(b *testing.B) {
	var groups []*CGroup
	for i := range sample.MaxCGroups {
		id := fmt.Sprintf("%064x", i)
		groups = append(groups, &CGroup{CGroup: at(uint64(i), 0, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"+strings.ReplaceAll(someUID, "-", "_")+".slice/cri-containerd-"+id+".scope", "shop/cart/"+id[60:])})
	}
	b.ReportAllocs()
	for b.Loop() {
		titles(groups)
	}
}
