// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	someID  = "3f2a91c0b7de4f5a8b9c0d1e2f3a4b5c6d7e8f901a2b3c4d5e6f708192a3b4c5"
	somePod = "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"
)

var (
	containerdFile = fmt.Sprintf(containerdStates[0]+bundleFile, "k8s.io", someID)
	k3sFile        = fmt.Sprintf(containerdStates[1]+bundleFile, "k8s.io", someID)
	nerdctlFile    = fmt.Sprintf(containerdStates[0]+bundleFile, "default", someID)
	someCRIO       = fmt.Sprintf(crioFile, someID)
	someDocker     = fmt.Sprintf(dockerFile, someID)
)

// put writes a file of the host's, below root.
func put(t testing.TB, root, path, text string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	// Not truncated first, which would make some file systems wait for the disk.
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Truncate(int64(len(text))), file.Close()); err != nil {
		t.Fatal(err)
	}
}

// nameBelow is what the host's files say of a container.
func nameBelow(root, runtime, pod string) containerName {
	return (&runtimeFiles{root: root}).nameOf(&sample.Container{Runtime: runtime, ID: someID, Pod: pod})
}

// TestRuntimeFiles has what each runtime writes, as far as it matters.
func TestRuntimeFiles(t *testing.T) {
	cri := `{"ociVersion":"1.1.0","process":{"args":["x"]},"annotations":{"io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.container-type":"container",
		"io.kubernetes.cri.sandbox-id":"1","io.kubernetes.cri.sandbox-name":"cart-6d9f","io.kubernetes.cri.sandbox-namespace":"shop"},"linux":{}}`
	criPause := `{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"cart-6d9f","io.kubernetes.cri.sandbox-namespace":"shop"}}`
	crio := `{"annotations":{"io.container.manager":"cri-o","io.kubernetes.container.name":"cart","io.kubernetes.pod.name":"cart-6d9f","io.kubernetes.pod.namespace":"shop"}}`
	docker := `{"StreamConfig":{},"State":{"Running":true},"ID":"` + someID + `","Config":{"Hostname":"h","Labels":{"a":"b"}},"Name":"/web-1","Driver":"overlay2"}`
	dockerPod := `{"Config":{"Labels":{"io.kubernetes.container.name":"POD","io.kubernetes.pod.name":"cart-6d9f","io.kubernetes.pod.namespace":"shop"}},"Name":"/k8s_POD_cart"}`
	list := `[{"id":"` + strings.Repeat("0", 64) + `","names":["other"]},{"id":"` + someID + `","names":["db","alias"],"image":"1","metadata":"{}","created":"2026-01-01T00:00:00Z","flags":{}}]`
	pod := containerName{"shop/cart-6d9f/cart", "shop/cart-6d9f"}
	pause := containerName{"shop/cart-6d9f/POD", "shop/cart-6d9f"}
	for name, tt := range map[string]struct {
		path, text, runtime, pod string
		want                     containerName
	}{
		"containerd":          {containerdFile, cri, sample.RuntimeContainerd, somePod, pod},
		"containerd's pause":  {containerdFile, criPause, sample.RuntimeContainerd, somePod, pause},
		"k3s":                 {k3sFile, cri, sample.RuntimeContainerd, somePod, pod},
		"containerd cgroupfs": {k3sFile, cri, "", somePod, pod},
		"CRI-O":               {someCRIO, crio, sample.RuntimeCRIO, somePod, pod},
		"CRI-O cgroupfs":      {someCRIO, crio, "", somePod, pod},
		"docker":              {someDocker, docker, sample.RuntimeDocker, "", containerName{full: "web-1"}},
		"docker elsewhere":    {someDocker, docker, "", "", containerName{full: "web-1"}},
		"docker's pod":        {someDocker, dockerPod, sample.RuntimeDocker, somePod, pause},
		"nerdctl":             {nerdctlFile, `{"annotations":{"nerdctl/name":"web-2"}}`, sample.RuntimeNerdctl, "", containerName{full: "web-2"}},
		"podman":              {podmanLists[0], list, sample.RuntimePodman, "", containerName{full: "db"}},
		"podman --rm":         {podmanLists[1], list, sample.RuntimePodman, "", containerName{full: "db"}},
		"podman, transient":   {podmanLists[2], list, sample.RuntimePodman, "", containerName{full: "db"}},
		// raw: every sink escapes it
		"escapes": {someDocker, `{"Name":"/a\u001b[2J\nb"}`, sample.RuntimeDocker, "", containerName{full: "a\x1b[2J\nb"}},
		// Labels make no pod of what the kubelet did not start.
		"docker's labels":      {someDocker, strings.Replace(docker, `"a":"b"`, `"io.kubernetes.pod.name":"etcd","io.kubernetes.pod.namespace":"kube-system"`, 1), sample.RuntimeDocker, "", containerName{full: "web-1"}},
		"CRI-O in no pod":      {someCRIO, crio, sample.RuntimeCRIO, "", containerName{}},
		"containerd in no pod": {containerdFile, cri, sample.RuntimeContainerd, "", containerName{}},
		// of another runtime
		"not asked": {someDocker, docker, sample.RuntimeCRIO, somePod, containerName{}},
		"no pod":    {containerdFile, cri, "", "", containerName{}},
	} {
		root := t.TempDir()
		put(t, root, tt.path, tt.text)
		if got := nameBelow(root, tt.runtime, tt.pod); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// TestRuntimeFilesHostile: what is no sound file has no name, and nobody waits for
// it or makes room for it.
func TestRuntimeFilesHostile(t *testing.T) {
	good := `{"Name":"/web-1"}`
	long := func(n int) string { return `{"Name":"/` + strings.Repeat("x", n) + `"}` }
	for name, place := range map[string]func(root, path string) error{
		"FIFO":          func(_, path string) error { return unix.Mkfifo(path, 0o644) },
		"directory":     func(_, path string) error { return os.Mkdir(path, 0o755) },
		"link to self":  func(_, path string) error { return os.Symlink(filepath.Base(path), path) },
		"link to other": func(_, path string) error { return os.Symlink("/etc/hostname", path) },
		"10 MiB":        func(_, path string) error { return os.WriteFile(path, []byte(long(10<<20)), 0o644) },
		"hole":          func(_, path string) error { os.WriteFile(path, nil, 0o644); return os.Truncate(path, 1<<40) },
		"no JSON":       func(_, path string) error { return os.WriteFile(path, []byte("\x00\xff{"), 0o644) },
		"half":          func(_, path string) error { return os.WriteFile(path, []byte(`{"Name":"/web-1"`), 0o644) },
		"empty":         func(_, path string) error { return os.WriteFile(path, nil, 0o644) },
		"wrong type":    func(_, path string) error { return os.WriteFile(path, []byte(`{"Name":["web"]}`), 0o644) },
		"another type":  func(_, path string) error { return os.WriteFile(path, []byte(`[1]`), 0o644) },
		"deep":          func(_, path string) error { return os.WriteFile(path, bytes.Repeat([]byte("["), 500000), 0o644) },
		"a link out of the root": func(root, path string) error {
			outside := t.TempDir()
			put(t, outside, "c", good)
			dir := filepath.Dir(path)
			os.Remove(dir)
			return os.Symlink(outside, dir)
		},
	} {
		root := t.TempDir()
		path := filepath.Join(root, someDocker)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := place(root, path); err != nil {
			t.Fatal(err)
		}
		if got := nameBelow(root, sample.RuntimeDocker, ""); got != (containerName{}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	// A link of the host's leads to where it means there.
	root := t.TempDir()
	put(t, root, strings.Replace(someDocker, "/var/lib", "/data", 1), good)
	os.MkdirAll(filepath.Join(root, "var/lib"), 0o755)
	if err := os.Symlink("/data/docker", filepath.Join(root, "var/lib/docker")); err != nil {
		t.Fatal(err)
	}
	if got := nameBelow(root, sample.RuntimeDocker, ""); got.full != "web-1" {
		t.Errorf("by a link: %+v", got)
	}
	if got := nameBelow("/there/is/none", sample.RuntimeDocker, ""); got.full != "" {
		t.Errorf("without a root: %+v", got)
	}
}

// TestPodmanList: what is read once is read again when it is another, and what is in
// it has bounds.
func TestPodmanList(t *testing.T) {
	root := t.TempDir()
	r := &runtimeFiles{root: root}
	write := func(text string) {
		// As podman does it: a new file in the old one's place.
		put(t, root, "new", text)
		at := filepath.Join(root, podmanLists[0])
		os.MkdirAll(filepath.Dir(at), 0o755)
		if err := os.Rename(filepath.Join(root, "new"), at); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name string) string { return `{"id":"` + someID + `","names":["` + name + `"]}` }
	for _, tt := range []struct{ text, want string }{
		{"[" + entry("a") + "]", "a"}, {"[" + entry("b") + "]", "b"}, {"[", ""}, {"{}", ""}, {"[" + entry("c") + ",{\"id\":1}]", "c"}, {`[{"id":"` + someID + `","names":[]}]`, ""},
		{"[" + entry(strings.Repeat("x", longestName+1)) + "]", ""}, {strings.Repeat(" ", runtimeFileBytes) + "[" + entry("d") + "]", ""},
	} {
		write(tt.text)
		for range 2 {
			if got := r.podman(someID); got.full != tt.want {
				t.Errorf("%.80s: %q, want %q", tt.text, got.full, tt.want)
			}
		}
	}
	write("[" + entry("a") + "]")
	r.podman(someID)
	list := r.list[podmanLists[0]]
	if r.podman(someID); r.list[podmanLists[0]] != list {
		t.Error("it was read again for nothing")
	}
	var many strings.Builder
	for i := range podmanNames + 10 {
		fmt.Fprintf(&many, `,{"id":"%d","names":["n"]}`, i)
	}
	write("[" + many.String()[1:] + "]")
	r.podman(someID)
	if n := len(r.list[podmanLists[0]].names); n != podmanNames {
		t.Errorf("%d names are kept, want %d", n, podmanNames)
	}
}

// namedTable is a table of groups with these paths, by id from 1 on, the first the
// parent of the others.
func namedTable(root string, paths ...string) (*cgroupTable, []*groupState) {
	t := &cgroupTable{names: newNameFinder(root), groups: make(map[uint64]*groupState)}
	var all []*groupState
	for i, path := range paths {
		g := &groupState{id: uint64(i + 1), named: true, path: path}
		if i > 0 {
			g.parent = 1
		}
		t.groups[g.id] = g
		all = append(all, g)
	}
	return t, all
}

// answer waits for what is found next, and lets the table have it.
func answer(t *cgroupTable) {
	f := <-t.names.found
	t.names.found <- f
	t.setNames()
}

// TestNames: a container's name is there at a later tick, and its pod's; what is no
// container of the host's is not looked for.
func TestNames(t *testing.T) {
	pod := "/kubepods/pod" + somePod
	root := t.TempDir()
	put(t, root, someCRIO, `{"annotations":{"io.kubernetes.container.name":"cart","io.kubernetes.pod.name":"cart-6d9f","io.kubernetes.pod.namespace":"shop"}}`)
	table, all := namedTable(root, pod, pod+"/crio-"+someID, pod+"/crio-"+someID+"/below", "/user@1.service/libpod-"+someID, "/system.slice/a.service")
	defer table.names.Close()
	table.setNames()
	table.wantNames(all)
	answer(table)
	table.wantNames(all)
	for i, want := range []string{"shop/cart-6d9f", "shop/cart-6d9f/cart", "", "", ""} {
		if g := all[i]; g.sample().Name != want || g.naming.asked {
			t.Errorf("%s: %q, want %q", g.path, g.sample().Name, want)
		}
	}
	// Renamed, it is no container any more.
	all[1].path = pod + "/other"
	table.wantNames(all)
	if got := all[1].sample().Name; got != "" {
		t.Errorf("renamed, it is %q", got)
	}
}

// TestNamesOfNoPod: a group above that is no pod's gets no pod's name, whatever its
// containers say.
func TestNamesOfNoPod(t *testing.T) {
	const label = `"io.kubernetes.pod.name":"etcd","io.kubernetes.pod.namespace":"kube-system","io.kubernetes.container.name":"etcd"`
	for runtime, tt := range map[string]struct{ file, text, scope, want string }{
		"docker": {someDocker, `{"Name":"/web-1","Config":{"Labels":{` + label + `}}}`, "docker-" + someID + ".scope", "web-1"},
		"CRI-O":  {someCRIO, `{"annotations":{` + label + `}}`, "crio-" + someID + ".scope", ""},
	} {
		root := t.TempDir()
		put(t, root, tt.file, tt.text)
		table, all := namedTable(root, "/system.slice", "/system.slice/"+tt.scope)
		table.wantNames(all)
		answer(table)
		all[1].naming.pod = "kube-system/etcd" // though one were found
		table.wantNames(all)
		if got := all[0].sample().Name + "|" + all[1].sample().Name; got != "|"+tt.want {
			t.Errorf("%s: %q, want %q", runtime, got, "|"+tt.want)
		}
		table.names.Close()
	}
}

// TestNamesRetried: what cannot be read is tried again a few times, and not while it
// is being read.
func TestNamesRetried(t *testing.T) {
	root := t.TempDir()
	table, all := namedTable(root, "/", "/docker/"+someID, "/docker/"+strings.Repeat("1", 64))
	defer table.names.Close()
	at := time.Now()
	table.names.now = func() time.Time { return at }
	put(t, root, fmt.Sprintf(dockerFile, strings.Repeat("1", 64)), `{"Name":"/`+strings.Repeat("x", longestName+1)+`"}`)
	var tries []int // after so many seconds
	for range 200 {
		table.wantNames(all)
		for all[1].naming.asked || all[2].naming.asked {
			table.wantNames(all)
			answer(table)
		}
		tries = append(tries, all[1].naming.tries)
		at = at.Add(time.Second)
	}
	for after, want := range map[int]int{0: 1, 1: 2, 5: 2, 6: 3, 35: 3, 36: 4, 199: 4} {
		if tries[after] != want {
			t.Errorf("tried %d times after %d s, want %d", tries[after], after, want)
		}
	}
	if n := all[2].naming; n.tries != 4 || n.name+all[1].naming.name != "" {
		t.Errorf("%+v", n)
	}
}

// TestNamesNeverWait: while nobody answers, ticks go on, and so does Close.
func TestNamesNeverWait(t *testing.T) {
	var paths []string
	for i := range 1000 {
		paths = append(paths, fmt.Sprintf("/docker/%064x", i))
	}
	table, all := namedTable("", paths...)
	f := table.names
	f.wanted, f.found, f.quit = make(chan wantedName, namesAtOnce), make(chan foundName, namesAtOnce), make(chan struct{})
	for range 3 {
		table.wantNames(all)
		table.setNames()
	}
	asked := 0
	for _, g := range all {
		if g.naming.asked {
			asked++
		}
	}
	if asked != namesAtOnce || len(f.wanted) != namesAtOnce {
		t.Errorf("%d are asked for, want %d", asked, namesAtOnce)
	}
	// Answers about groups that are gone, or are others by now.
	first := <-f.wanted
	f.found <- foundName{wantedName: wantedName{5000, first.of}, containerName: bareName("gone")}
	f.found <- foundName{wantedName: wantedName{first.group, sample.Container{ID: someID}}, containerName: bareName("another")}
	if table.setNames(); len(table.groups) != len(all) || all[0].naming.name != "" || !all[0].naming.asked {
		t.Errorf("%+v", all[0].naming)
	}
	// The one who answers ends although nobody takes what it has found.
	ended := make(chan struct{})
	for range namesAtOnce {
		f.found <- foundName{}
	}
	wanted, found, quit := f.wanted, f.found, f.quit
	go func() {
		defer close(ended)
		findNames(f.look, wanted, found, quit)
	}()
	f.Close()
	f.Close()
	<-ended
	(*nameFinder)(nil).Close()
}

// TestNamesPanic: a panic of who looks is one of who ticks, with its words.
func TestNamesPanic(t *testing.T) {
	table, all := namedTable("/there/is/none", "/docker/"+someID)
	defer table.names.Close()
	table.names.look = func(*sample.Container) containerName { panic("the file's panic") }
	table.wantNames(all)
	defer func() {
		if text, _ := recover().(string); !strings.HasPrefix(text, "the file's panic\ngoroutine ") {
			t.Errorf("%q", text)
		}
	}()
	answer(table)
	t.Error("there was no panic")
}

// FuzzRuntimeFiles: whatever is in them, there is a name or none.
func FuzzRuntimeFiles(f *testing.F) {
	f.Add([]byte(`{"Name":"/a","Config":{"Labels":{"io.kubernetes.pod.name":"p"}},"annotations":{"nerdctl/name":"b"}}`))
	f.Add([]byte(`[{"id":"` + someID + `","names":["c"]}]`))
	root := f.TempDir()
	for _, path := range []string{containerdFile, nerdctlFile, someCRIO, someDocker, podmanLists[0]} {
		put(f, root, path, "")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range []string{containerdFile, nerdctlFile, someCRIO, someDocker, podmanLists[0]} {
			put(t, root, path, string(b))
		}
		for _, runtime := range []string{"", sample.RuntimeContainerd, sample.RuntimeCRIO, sample.RuntimeDocker, sample.RuntimeNerdctl, sample.RuntimePodman} {
			if n := nameBelow(root, runtime, somePod); n.pod != "" && !strings.HasPrefix(n.full, n.pod+"/") || len(n.full) > 3*len(b)+10 {
				t.Errorf("%s: %+v", runtime, n)
			}
		}
	})
}

// BenchmarkNames is what one name costs, in time of the goroutine that finds them.
func BenchmarkNames(b *testing.B) {
	root := b.TempDir()
	mounts := strings.Repeat(`{"destination":"/proc/some/where","type":"bind","source":"/var/lib/some/where/else","options":["rbind","rprivate","ro"]},`, 120)
	put(b, root, containerdFile, `{"mounts":[`+mounts+`{}],"annotations":{"io.kubernetes.cri.sandbox-name":"p","io.kubernetes.cri.container-name":"c"}}`)
	put(b, root, someDocker, `{"MountPoints":[`+mounts+`{}],"Name":"/web-1"}`)
	var list strings.Builder
	for i := range 500 {
		fmt.Fprintf(&list, `,{"id":"%064x","names":["n%d"],"image":"%064x","layer":"%064x","metadata":"{}"}`, i, i, i, i)
	}
	put(b, root, podmanLists[0], `[{"id":"`+someID+`","names":["db"]}`+list.String()+"]")
	for _, runtime := range []string{sample.RuntimeContainerd, sample.RuntimeDocker, sample.RuntimePodman} {
		b.Run(runtime, func(b *testing.B) {
			r := &runtimeFiles{root: root}
			b.ReportAllocs()
			for b.Loop() {
				if n := r.nameOf(&sample.Container{Runtime: runtime, ID: someID, Pod: somePod}); n.full == "" {
					b.Fatal("no name")
				}
			}
		})
	}
}
