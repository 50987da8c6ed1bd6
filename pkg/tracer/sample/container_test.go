// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"strings"
	"testing"
)

const (
	testID  = "3f2a91c0b7de4f5a8b9c0d1e2f3a4b5c6d7e8f901a2b3c4d5e6f708192a3b4c5"
	testUID = "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"
	testHex = "8fd2c2b8e0d6b9c5b1a4a7c3f1e2d3c4" // a static pod's, and of an ECS task
)

// TestContainerOf has the paths of each runtime and driver, as they and those who
// read them document them.
func TestContainerOf(t *testing.T) {
	under := strings.ReplaceAll(testUID, "-", "_")
	other := strings.Repeat("0123456789abcdef", 4)
	docker := Container{Runtime: RuntimeDocker, ID: testID}
	podman := Container{Runtime: RuntimePodman, ID: testID}
	in := func(runtime, pod string) Container { return Container{Runtime: runtime, ID: testID, Pod: pod} }
	for path, want := range map[string]Container{
		// docs.docker.com, "Runtime metrics": cgroupfs and systemd, cgroup v1 and v2
		"/docker/" + testID:                         docker,
		"/system.slice/docker-" + testID + ".scope": docker,
		"docker/" + testID:                          docker,
		"/docker/" + testID + "/a/b":                {Runtime: RuntimeDocker, ID: testID, Below: "a/b"},
		// docker run --cgroup-parent=/mine
		"/mine/" + testID:                         {ID: testID},
		"/mine.slice/docker-" + testID + ".scope": docker,
		// kubernetes/pkg/kubelet/cm/cgroup_manager_linux.go, with cgroupfs and with systemd
		"/kubepods/burstable/pod" + testUID:                                                                                {Pod: testUID},
		"/kubepods/burstable/pod" + testUID + "/" + testID:                                                                 in("", testUID),
		"/kubepods/pod" + testUID + "/" + testID:                                                                           in("", testUID),
		"/kubepods/besteffort/pod" + testHex + "/" + testID:                                                                in("", testHex),
		"/kubepods/burstable/pod" + testUID + "/crio-" + testID:                                                            in(RuntimeCRIO, testUID),
		"/kubepods.slice/kubepods-pod" + under + ".slice":                                                                  {Pod: testUID},
		"/kubepods.slice/kubepods-pod" + under + ".slice/cri-containerd-" + testID + ".scope":                              in(RuntimeContainerd, testUID),
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/crio-" + testID + ".scope":     in(RuntimeCRIO, testUID),
		"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + under + ".slice/docker-" + testID + ".scope": in(RuntimeDocker, testUID),
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + testID + ".scope": in(RuntimeContainerd, testUID),
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + testID + ".scope/container":                                                                          {Runtime: RuntimeCRIO, ID: testID, Pod: testUID, Below: "container"},
		// kubelet with systemd's driver, containerd without: containerd's getCgroupsPath()
		"/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + testID: in(RuntimeContainerd, testUID),
		// podman/libpod/container_internal_linux.go: systemd, cgroupfs, --cgroups=split, in a pod
		"/machine.slice/libpod-" + testID + ".scope":                                        podman,
		"/machine.slice/libpod-" + testID + ".scope/container":                              {Runtime: RuntimePodman, ID: testID, Below: "container"},
		"/libpod_parent/libpod-" + testID:                                                   podman,
		"/system.slice/web.service/libpod-payload-" + testID:                                podman,
		"/machine.slice/machine-libpod_pod_" + other + ".slice/libpod-" + testID + ".scope": podman,
		// rootless: a user's own
		"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + testID + ".scope": {Runtime: RuntimePodman, ID: testID, Inner: true},
		// in LXC, machines and what was delegated
		"/lxc.payload.web/system.slice/docker-" + testID + ".scope":                                   {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/lxc/101/ns/docker/" + testID:                                                                {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/lxc.payload/web/kubepods/pod" + testUID:                                                     {Pod: testUID, Inner: true},
		"/machine.slice/machine-box.scope/payload/system.slice/docker-" + testID + ".scope":           {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/machine.slice/systemd-nspawn@box.service/payload/machine.slice/libpod-" + testID + ".scope": {Runtime: RuntimePodman, ID: testID, Inner: true},
		"/machine.slice/systemd-nspawn@box.service/payload/a.service/libpod-payload-" + testID:        {Runtime: RuntimePodman, ID: testID, Inner: true},
		"/system.slice/ci-runner.service/docker/" + testID:                                            {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/system.slice/ci-runner.service/kubepods/pod" + testUID + "/crio-" + testID:                  {Runtime: RuntimeCRIO, ID: testID, Pod: testUID, Inner: true},
		"/user.slice/user-0.slice/session-3.scope/docker/" + testID:                                   {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/user.slice/user-0.slice/session-3.scope/libpod-payload-" + testID:                           podman,
		"/system.slice/snap.docker.dockerd.service/docker/" + testID:                                  docker,
		"/docker/" + testID + "/system.slice/nginx.service":                                           {Runtime: RuntimeDocker, ID: testID, Below: "system.slice/nginx.service"},
		// amazon-ecs-agent/agent/taskresource/cgroup: v1, v2
		"/ecs/" + testHex + "/" + testID:                                             docker,
		"/ecstasks.slice/ecstasks-" + testHex + ".slice/docker-" + testID + ".scope": docker,
		// nerdctl: systemd, cgroupfs
		"/system.slice/nerdctl-" + testID + ".scope": {Runtime: RuntimeNerdctl, ID: testID},
		"/default/" + testID:                         {Runtime: RuntimeNerdctl, ID: testID},
		// Docker in Docker, Kubernetes in Docker (kind)
		"/docker/" + other + "/docker/" + testID:                                        {Runtime: RuntimeDocker, ID: testID, Inner: true},
		"/docker/" + other + "/kubelet/kubepods/burstable/pod" + testUID + "/" + testID: {ID: testID, Pod: testUID, Inner: true},
		"/docker/" + other + "/kubepods/pod" + testUID:                                  {Pod: testUID, Inner: true},
		"/kubepods/pod" + testUID + "/" + other + "/docker/" + testID:                   {Runtime: RuntimeDocker, ID: testID, Inner: true},
	} {
		if got, ok := ContainerOf(path); got != want || !ok {
			t.Errorf("%s: %+v, %v, want %+v", path, got, ok, want)
		}
	}
	for _, path := range []string{
		"", "/", "//", "/docker", "/kubepods/burstable", "/kubepods.slice/kubepods-burstable.slice", "/system.slice/docker.service",
		"/docker/" + testID[1:], "/docker/" + strings.ToUpper(testID), "/docker/g" + testID[1:], "/docker/0" + testID, "/docker/_" + testID,
		// the monitors of containers are not in them
		"/machine.slice/libpod-conmon-" + testID + ".scope", "/kubepods.slice/crio-conmon-" + testID + ".scope",
		"/system.slice/x-" + testID + ".scope", "/-" + testID, "/:" + testID,
		"/pod" + testUID, "/kubepods/pod", "/kubepods/pod" + testUID[1:], "/kubepods/podx" + testUID[1:], "/kubepods/pod" + testUID + "0",
		"/kubepods/pod1-" + strings.ReplaceAll(testUID, "-", "")[1:], "/kubepods/pod" + strings.Repeat("-", 36),
	} {
		if got, ok := ContainerOf(path); ok {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// FuzzContainerOf: what is found is in the path, and is what it claims to be.
func FuzzContainerOf(f *testing.F) {
	for _, path := range []string{"/docker/" + testID + "/x", "/kubepods.slice/kubepods-pod" + strings.ReplaceAll(testUID, "-", "_") + ".slice:cri-containerd:" + testID, "/user@1.service/crio-" + testID + ".scope"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c, ok := ContainerOf(path)
		if !ok {
			if c != (Container{}) {
				t.Errorf("%q: %+v, and yet false", path, c)
			}
			return
		}
		if c.ID == "" && c.Pod == "" || c.ID != "" && (len(c.ID) != idDigits || !isHex(c.ID) || !strings.Contains(path, c.ID)) {
			t.Errorf("%q: id %q", path, c.ID)
		}
		if bare := strings.ReplaceAll(c.Pod, "-", ""); c.Pod != "" && (len(bare) != 32 || !isHex(bare)) {
			t.Errorf("%q: pod %q", path, c.Pod)
		}
		if !strings.HasSuffix(path, c.Below) {
			t.Errorf("%q: below %q", path, c.Below)
		}
	})
}
