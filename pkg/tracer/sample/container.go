// SPDX-License-Identifier: Apache-2.0

package sample

import "strings"

// The container runtimes that a cgroup's path may name.
const (
	RuntimeContainerd = "containerd"
	RuntimeCRIO       = "cri-o"
	RuntimeDocker     = "docker"
	RuntimeNerdctl    = "nerdctl"
	RuntimePodman     = "podman"
)

// Container is what the path of a cgroup says of the container or pod whose group
// it is, or in whose group it is. Nobody vouches for it: whoever may make cgroups
// may name them so.
type Container struct {
	Runtime string // "" where the path does not say
	ID      string // 64 hexadecimal digits; "" for a pod's own group
	Pod     string // uid of the Kubernetes pod, as Kubernetes writes it; "" outside of one
	Below   string // path from the container's group on; "" for that group itself
	// Inner is true inside another container or a machine, below a user's own service
	// manager, and in what was delegated to a unit that is no runtime: the host's
	// runtimes know nothing of it.
	Inner bool
}

// idDigits is the length of a container's id.
const idDigits = 64

// runtimeOf is by what stands before the id, as each runtime makes it, with
// systemd's driver ("docker-ID.scope") or without ("crio-ID").
var runtimeOf = map[string]string{
	"docker":         RuntimeDocker,
	"cri-containerd": RuntimeContainerd,
	"crio":           RuntimeCRIO,
	"libpod":         RuntimePodman,
	"libpod-payload": RuntimePodman, // podman run --cgroups=split
	"nerdctl":        RuntimeNerdctl,
}

// ContainerOf takes the path of a cgroup apart. Of containers inside of others it
// is the innermost. It reports false where none is named.
func ContainerOf(path string) (Container, bool) {
	var c Container
	found, inKube, inner, delegated := false, false, false, false
	for at := 0; at < len(path); {
		end := strings.IndexByte(path[at:], '/')
		if end < 0 {
			end = len(path)
		} else {
			end += at
		}
		name, before, rest := path[at:end], path[:at], path[min(end+1, len(path)):]
		at = end + 1
		inner = inner || isMachine(name)
		delegated = delegated || isDelegated(name)
		inKube = inKube || strings.Contains(name, "kubepods")
		if pod := podOf(name); pod != "" && inKube {
			c, found = Container{Pod: pod, Below: rest, Inner: inner || delegated || c.ID != ""}, true
		}
		runtime, id := idOf(name)
		if id == "" {
			continue
		}
		if runtime == "" {
			runtime = runtimeAbove(before)
		}
		next := Container{Runtime: runtime, ID: id, Below: rest, Inner: inner || c.Inner || c.ID != "" || delegated && !strings.HasPrefix(name, splitPodman)}
		if c.ID == "" {
			next.Pod = c.Pod
		}
		c, found = next, true
	}
	return c, found
}

// isMachine reports whether what is below a group of that name has a manager of its
// own: LXC (src/lxc/cgroups/cgfsng.c), systemd-machined's machines, systemd-nspawn,
// and a user's systemd.
func isMachine(name string) bool {
	unit, service := strings.CutSuffix(name, ".service")
	scope, isScope := strings.CutSuffix(name, ".scope")
	return name == "lxc" || name == "lxc.payload" || strings.HasPrefix(name, "lxc.payload.") ||
		isScope && strings.HasPrefix(scope, "machine-") ||
		service && (strings.HasPrefix(unit, "systemd-nspawn@") || strings.HasPrefix(unit, "user@"))
}

// splitPodman is how the groups of podman run --cgroups=split are called, which are
// below the unit that started it.
const splitPodman = "libpod-payload-"

// isDelegated reports whether a unit may have made groups as it likes below its own,
// and is none of the host's runtimes, some of which keep their containers there.
func isDelegated(name string) bool {
	if strings.HasSuffix(name, ".scope") {
		return strings.HasPrefix(name, "session-")
	}
	if !strings.HasSuffix(name, ".service") {
		return false
	}
	for _, runtime := range []string{"containerd", "docker", "crio", "cri-o", "kubelet", "k3s", "rke2"} {
		if strings.Contains(name, runtime) { // also "snap.docker.dockerd.service"
			return false
		}
	}
	return true
}

// idOf takes a container's id from the name of its group.
func idOf(name string) (runtime, id string) {
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < idDigits {
		return "", ""
	}
	before, id := name[:len(name)-idDigits], name[len(name)-idDigits:]
	if !isHex(id) {
		return "", ""
	}
	if before == "" {
		return "", id
	}
	// Where kubelet uses systemd and the runtime does not, "SLICE:RUNTIME:ID".
	sep := before[len(before)-1]
	before = before[:len(before)-1]
	if sep == ':' {
		before = before[strings.LastIndexByte(before, ':')+1:]
	} else if sep != '-' {
		return "", ""
	}
	if runtime = runtimeOf[before]; runtime == "" {
		return "", "" // "crio-conmon-ID.scope" is the monitor
	}
	return runtime, id
}

// runtimeAbove is by the groups above that have nothing but an id for a name:
// "/docker/ID", and "/ecs/TASK/ID", whose containers are Docker's.
func runtimeAbove(before string) string {
	before = strings.Trim(before, "/")
	above := before[strings.LastIndexByte(before, '/')+1:]
	switch {
	case above == "docker", strings.HasPrefix(before, "ecs/"):
		return RuntimeDocker
	case before == "default": // the namespace of nerdctl and ctr
		return RuntimeNerdctl
	}
	return ""
}

// podOf is the uid in the name of a pod's group: "podUID", and with systemd's
// driver, whose slices are parted by "-", "kubepods-burstable-podUID.slice" with "_"
// for "-". The uid of a static pod is a hash without any.
func podOf(name string) string {
	i := 0
	if !strings.HasPrefix(name, "pod") {
		if i = strings.LastIndex(name, "-pod"); i < 0 {
			return ""
		}
		i++
	}
	uid, rest, _ := strings.Cut(name[i+len("pod"):], ".slice")
	if rest != "" && rest[0] != ':' {
		return ""
	}
	uid = strings.ReplaceAll(uid, "_", "-")
	switch digits := strings.ReplaceAll(uid, "-", ""); {
	case len(digits) != 32 || !isHex(digits):
		return ""
	case len(uid) == 32:
		return uid
	case len(uid) != 36 || uid[8] != '-' || uid[13] != '-' || uid[18] != '-' || uid[23] != '-':
		return ""
	}
	return uid
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
