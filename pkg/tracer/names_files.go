// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/herdtrace/herdtrace/pkg/tracer/sample"
)

const (
	// runtimeFileBytes bounds a runtime's file. A container's config.json has some
	// ten thousand, podman's list some hundred for each container.
	runtimeFileBytes = 1 << 20
	// podmanNames bounds how many names of podman's list are kept.
	podmanNames = 4096
)

// Where the runtimes keep what they know of a container, by its id.
const (
	bundleFile = "/io.containerd.runtime.v2.task/%s/%s/config.json" // below containerd's state; by its namespace
	crioFile   = "/run/containers/storage/overlay-containers/%s/userdata/config.json"
	dockerFile = "/var/lib/docker/containers/%s/config.v2.json"
)

var (
	// containerdStates are containerd's own and those of k3s and RKE2.
	containerdStates = []string{"/run/containerd", "/run/k3s/containerd"}
	// podmanLists are those of containers/storage: of containers that stay, of those
	// with --rm, and of those where all is transient.
	podmanLists = []string{
		"/var/lib/containers/storage/overlay-containers/containers.json",
		"/var/lib/containers/storage/overlay-containers/volatile-containers.json",
		"/run/containers/storage/overlay-containers/volatile-containers.json",
	}
)

// hostRoot is where the host's files are: pid 1's root, which from inside of a
// container is the host's if its processes are (and BPF needs that it is so), or
// else what is called so here.
func hostRoot() string {
	const ofInit = "/proc/1/root"
	fd, err := unix.Open(ofInit, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "/"
	}
	unix.Close(fd)
	return ofInit
}

// runtimeFiles reads the files of container runtimes. Root's runtimes wrote them;
// what is in them was chosen by whoever starts containers.
type runtimeFiles struct {
	root string
	list map[string]*podmanList // by path
}

// nameOf looks where the container's runtime would have it, or all of them that may
// be.
func (r *runtimeFiles) nameOf(c *sample.Container) containerName {
	for _, look := range r.places(c) {
		if name := look(c.ID); name.full != "" {
			return name
		}
	}
	return containerName{}
}

// places are where to look. What says of itself that it is a pod's is believed only
// where the kubelet makes groups: anybody who may start a container can label it so.
func (r *runtimeFiles) places(c *sample.Container) []func(id string) containerName {
	type places = []func(id string) containerName
	inPod := map[string]places{
		sample.RuntimeContainerd: {r.containerd},
		sample.RuntimeCRIO:       {r.crio},
		sample.RuntimeDocker:     {r.dockerPod},
		"":                       {r.containerd, r.crio, r.dockerPod},
	}
	if p, ok := inPod[c.Runtime]; ok && c.Pod != "" {
		return p
	}
	switch c.Runtime {
	case sample.RuntimeDocker, "":
		return places{r.docker}
	case sample.RuntimePodman:
		return places{r.podman}
	case sample.RuntimeNerdctl:
		return places{r.nerdctl}
	}
	return nil
}

// ociConfig is a container's config.json (opencontainers/runtime-spec, config.md).
type ociConfig struct {
	Annotations struct {
		// containerd/internal/cri/annotations
		Namespace string `json:"io.kubernetes.cri.sandbox-namespace"`
		Pod       string `json:"io.kubernetes.cri.sandbox-name"`
		Container string `json:"io.kubernetes.cri.container-name"`
		// kubelet/pkg/types/labels.go, which CRI-O makes annotations
		kubeLabels
		// nerdctl/pkg/labels, likewise
		Nerdctl string `json:"nerdctl/name"`
	} `json:"annotations"`
}

type kubeLabels struct {
	LabelNamespace string `json:"io.kubernetes.pod.namespace"`
	LabelPod       string `json:"io.kubernetes.pod.name"`
	LabelContainer string `json:"io.kubernetes.container.name"`
}

func (l *kubeLabels) name() containerName {
	return podName(l.LabelNamespace, l.LabelPod, l.LabelContainer)
}

func (r *runtimeFiles) containerd(id string) containerName {
	for _, state := range containerdStates {
		var c ociConfig
		if a := &c.Annotations; r.decode(fmt.Sprintf(state+bundleFile, "k8s.io", id), &c) == nil && a.Pod != "" {
			return podName(a.Namespace, a.Pod, a.Container)
		}
	}
	return containerName{}
}

func (r *runtimeFiles) crio(id string) containerName {
	var c ociConfig
	if r.decode(fmt.Sprintf(crioFile, id), &c) != nil {
		return containerName{}
	}
	return c.Annotations.name()
}

func (r *runtimeFiles) nerdctl(id string) containerName {
	var c ociConfig
	if r.decode(fmt.Sprintf(containerdStates[0]+bundleFile, "default", id), &c) != nil {
		return containerName{}
	}
	return bareName(c.Annotations.Nerdctl)
}

// dockerConfig is a container's file: moby/container/container.go writes its
// Container there. The kubelet's names are labels, with cri-dockerd.
type dockerConfig struct {
	Name   string
	Config struct {
		Labels kubeLabels
	}
}

func (r *runtimeFiles) docker(id string) containerName {
	var c dockerConfig
	if r.decode(fmt.Sprintf(dockerFile, id), &c) != nil {
		return containerName{}
	}
	return bareName(c.Name)
}

func (r *runtimeFiles) dockerPod(id string) containerName {
	var c dockerConfig
	if r.decode(fmt.Sprintf(dockerFile, id), &c) != nil {
		return containerName{}
	}
	if name := c.Config.Labels.name(); name.full != "" {
		return name
	}
	return bareName(c.Name)
}

// podmanList is one of podman's lists, as of its last change.
type podmanList struct {
	ino   uint64
	size  int64
	mtime unix.Timespec
	names map[string]string
}

func (r *runtimeFiles) podman(id string) containerName {
	for _, path := range podmanLists {
		if list := r.readList(path); list != nil && list.names[id] != "" {
			return bareName(list.names[id])
		}
	}
	return containerName{}
}

// readList reads one only if it is another than before: it has all containers, and
// would be read for each.
func (r *runtimeFiles) readList(path string) *podmanList {
	fd, st, err := r.open(path)
	if err != nil {
		delete(r.list, path)
		return nil
	}
	defer unix.Close(fd)
	list := r.list[path]
	if list != nil && list.ino == st.Ino && list.size == st.Size && list.mtime == st.Mtim {
		return list
	}
	list = &podmanList{ino: st.Ino, size: st.Size, mtime: st.Mtim, names: make(map[string]string)}
	if b, err := readBounded(fd); err == nil {
		list.fill(b)
	}
	if r.list == nil {
		r.list = make(map[string]*podmanList)
	}
	r.list[path] = list
	return list
}

// fill takes in as much as makes sense: containers/storage/containers.go writes a
// list of its Container.
func (l *podmanList) fill(b []byte) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return
	}
	for d.More() && len(l.names) < podmanNames {
		var c struct {
			ID    string   `json:"id"`
			Names []string `json:"names"`
		}
		if d.Decode(&c) != nil {
			return
		}
		if len(c.Names) > 0 && len(c.Names[0]) <= longestName {
			l.names[c.ID] = c.Names[0]
		}
	}
}

func (r *runtimeFiles) decode(path string, into any) error {
	fd, _, err := r.open(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b, err := readBounded(fd)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

var errNotRegular = errors.New("it is no regular file")

// open opens a regular file below the root, where links lead to what they mean there,
// and does not wait for anybody: a FIFO would have it wait for a writer.
func (r *runtimeFiles) open(path string) (fd int, st unix.Stat_t, err error) {
	root, err := unix.Open(r.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	defer unix.Close(root)
	fd, err = unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS, // Linux 5.6
	})
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	if err == nil && st.Size > runtimeFileBytes {
		err = errTruncated
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// readBounded reads to the end of a file that is not too long.
func readBounded(fd int) ([]byte, error) {
	var b []byte
	part := make([]byte, 32<<10)
	for {
		n, err := unix.Read(fd, part)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n <= 0:
			return b, nil
		case len(b)+n > runtimeFileBytes:
			return nil, errTruncated
		default:
			b = append(b, part[:n]...)
		}
	}
}
