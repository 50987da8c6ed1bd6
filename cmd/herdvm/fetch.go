// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// guestModules are what the lab's loads and sock_diag need, in the order in which
// they go in.
var guestModules = []string{"tun", "veth", "inet_diag", "tcp_diag", "unix_diag"}

// bootable is a kernel that lies in the cache.
type bootable struct {
	dir     string
	release string
}

func (b *bootable) image() string { return filepath.Join(b.dir, "vmlinuz") }

// cacheDir is where kernels are kept between runs.
func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory (set XDG_CACHE_HOME): %w", err)
	}
	return filepath.Join(dir, "herdtrace", "kernels"), nil
}

// kernelOf takes a kernel from the cache, or fetches it.
func kernelOf(cache string, s series, arch string, refresh bool) (*bootable, error) {
	b := &bootable{dir: filepath.Join(cache, arch+"-"+s.name)}
	if release, err := os.ReadFile(filepath.Join(b.dir, "release")); err == nil && !refresh {
		b.release = string(release)
		return b, nil
	}
	set, apt, err := lookUp(cache, s, arch)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "herdvm: fetching %s\n", strings.Join(set.names, ", "))
	tmp, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return nil, fmt.Errorf("fetch kernel %s: %w", s.name, err)
	}
	defer os.RemoveAll(tmp)
	if err := apt.download(tmp, set.names); err != nil {
		return nil, fmt.Errorf("fetch kernel %s: %w", s.name, err)
	}
	if err := pick(tmp, b.dir+".new", set); err != nil {
		return nil, fmt.Errorf("unpack kernel %s: %w", s.name, err)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return nil, fmt.Errorf("keep kernel %s: %w", s.name, err)
	}
	if err := os.Rename(b.dir+".new", b.dir); err != nil {
		return nil, fmt.Errorf("keep kernel %s: %w", s.name, err)
	}
	b.release = set.release
	return b, nil
}

// aptFor is apt with one suite of one architecture and directories of its own: it
// neither reads nor changes what the machine's own apt knows.
type aptFor struct{ args []string }

// lookUp finds out which packages hold the newest kernel of a series.
func lookUp(cache string, s series, arch string) (*packageSet, *aptFor, error) {
	dir := filepath.Join(cache, "apt-"+arch+"-"+s.suite)
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, nil, fmt.Errorf("look up kernel %s: %w", s.name, err)
		}
	}
	list := filepath.Join(dir, "sources.list")
	line := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", keyring, mirror(s.suite), s.suite)
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return nil, nil, fmt.Errorf("look up kernel %s: %w", s.name, err)
	}
	a := &aptFor{}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null",
		"Dir::State::lists=" + filepath.Join(dir, "lists"), "Dir::Cache=" + filepath.Join(dir, "cache"),
		"APT::Architecture=" + arch, "APT::Architectures::=" + arch,
		// root's cache may be closed to the user that apt would fetch as; what it
		// fetches is checked all the same.
		"APT::Sandbox::User=root",
		// A suite at the end of its life is not signed anew.
		"Acquire::Check-Valid-Until=false",
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	} {
		a.args = append(a.args, "-o", o)
	}
	if _, err := a.run("", "apt-get", "-qq", "--error-on=any", "update"); err != nil {
		return nil, nil, fmt.Errorf("look up kernel %s: %w", s.name, err)
	}
	avail, err := a.run("", "apt-cache", "dumpavail")
	if err != nil {
		return nil, nil, fmt.Errorf("look up kernel %s: %w", s.name, err)
	}
	names, err := packageNames(bytes.NewReader(avail))
	if err != nil {
		return nil, nil, err
	}
	set, err := resolve(s, arch, names)
	return set, a, err
}

// download fetches packages into dir; apt checks them against the signed lists.
func (a *aptFor) download(dir string, names []string) error {
	_, err := a.run(dir, "apt-get", append([]string{"-qq", "download"}, names...)...)
	return err
}

func (a *aptFor) run(dir, tool string, args ...string) ([]byte, error) {
	cmd := exec.Command(tool, append(append([]string{}, a.args...), args...)...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", tool, args[len(args)-1], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// mirror is the one that the machine's own apt uses for Debian.
func mirror(suite string) string {
	security := strings.HasSuffix(suite, "-security")
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian").Output()
	if err == nil {
		for _, uri := range strings.Fields(string(out)) {
			if strings.Contains(uri, "security") == security {
				return strings.TrimSuffix(uri, "/")
			}
		}
	}
	if security {
		return "http://deb.debian.org/debian-security"
	}
	return "http://deb.debian.org/debian"
}

// pick unpacks the packages in tmp and copies what a guest needs to dir.
func pick(tmp, dir string, set *packageSet) error {
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != len(set.names) {
		return fmt.Errorf("find the packages: %d of %d are there (%v)", len(debs), len(set.names), err)
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if out, err := exec.Command("dpkg-deb", "-x", deb, root).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	found := make(map[string]bool)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name := d.Name()
		if strings.HasPrefix(name, "vmlinuz") {
			found["vmlinuz"] = true
			return os.Rename(path, filepath.Join(dir, "vmlinuz"))
		}
		for _, m := range guestModules {
			if rest, ok := strings.CutPrefix(name, m+".ko"); ok && (rest == "" || rest == ".xz") {
				found[m] = true
				return os.Rename(path, filepath.Join(dir, name))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, m := range append([]string{"vmlinuz"}, guestModules...) {
		if !found[m] {
			return errors.New("there is no " + m + " in " + strings.Join(set.names, ", "))
		}
	}
	return os.WriteFile(filepath.Join(dir, "release"), []byte(set.release), 0o644)
}
