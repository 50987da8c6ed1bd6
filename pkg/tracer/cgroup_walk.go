// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileIDKernfs is FILEID_KERNFS (include/linux/exportfs.h, Linux 5.5): what
// open_by_handle_at(2) takes with it is a cgroup's id
// (fs/kernfs/mount.c: kernfs_fh_to_dentry()).
const fileIDKernfs = 0xfe

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// findRoot learns whether groups can be opened by id, by the root's: that takes
// CAP_DAC_READ_SEARCH.
func (r *cgroupReader) findRoot() error {
	var st unix.Stat_t
	if err := unix.Fstat(r.tree.dir, &st); err != nil {
		return fmt.Errorf("look at root of cgroups: %w", err)
	}
	r.dev = st.Dev
	r.root = r.add(st.Ino, "", nil)
	fd, err := openCGroup(r.tree.dir, st.Ino)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var same unix.Stat_t
	if unix.Fstat(fd, &same) == nil && same.Ino == st.Ino && same.Dev == st.Dev {
		r.link = linkOf(fd)
	}
	return nil
}

func openCGroup(root int, id uint64) (int, error) {
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	return unix.OpenByHandleAt(root, handle, dirFlags)
}

func linkOf(fd int) string {
	link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return link
}

// openDir opens the directory of a group, and of no other one that has its name
// by now. That there is none is ENOENT.
func (r *cgroupReader) openDir(s *cgroupState) (int, error) {
	if r.link != "" {
		fd, err := openCGroup(r.tree.dir, s.id)
		if err == unix.ESTALE {
			err = unix.ENOENT
		}
		return fd, err
	}
	fd, err := unix.Openat(r.tree.dir, "."+s.path(), dirFlags, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Ino != s.id {
		err = unix.ENOENT
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// cgroupLink is a group on the way from one that was not known up to one that is.
type cgroupLink struct {
	id   uint64
	name string
}

// resolve finds a group by its id alone, and those above it; nil where there is
// none to be seen.
func (r *cgroupReader) resolve(id uint64) *cgroupState {
	dir, err := openCGroup(r.tree.dir, id)
	if err != nil {
		return nil
	}
	defer func() { unix.Close(dir) }()
	// One that is not below the root is called "/".
	rel, ok := strings.CutPrefix(linkOf(dir), strings.TrimSuffix(r.link, "/")+"/")
	ok = ok && alive(dir)
	var chain []cgroupLink
	var parent *cgroupState
	for at := id; parent == nil; parent = r.known[at] {
		if !ok || rel == "" {
			return nil
		}
		i := strings.LastIndexByte(rel, '/')
		chain = append(chain, cgroupLink{at, rel[i+1:]})
		if rel = rel[:max(i, 0)]; rel == "" {
			parent = r.root
			break
		}
		up, err := unix.Openat(dir, "..", unix.O_PATH|dirFlags&^unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil
		}
		unix.Close(dir)
		dir = up
		var st unix.Stat_t
		if unix.Fstat(dir, &st) != nil || st.Dev != r.dev {
			return nil
		}
		at = st.Ino
	}
	for i := len(chain) - 1; i >= 0 && parent != nil; i-- {
		parent = r.add(chain[i].id, chain[i].name, parent)
	}
	return parent
}

// walk looks for all groups, and for those that are gone.
func (r *cgroupReader) walk() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := threadTime()
	r.walks++
	r.root.walk = r.walks
	w := cgroupWalk{r: r, buf: make([]byte, 16384), left: []*cgroupState{r.root}, whole: true}
	for len(w.left) > 0 {
		s := w.left[len(w.left)-1]
		w.left = w.left[:len(w.left)-1]
		if err := w.list(s); err != nil && err != unix.ENOENT {
			r.unreadable++
			w.whole = false
		}
	}
	r.skipped = max(r.skipped, w.skipped)
	for _, s := range r.known {
		// A rename during the walk may have hidden it, too.
		if s.walk != r.walks && w.whole && !r.exists(s) {
			r.lose(s)
		}
	}
	r.wanted = false
	r.walkAt, r.walkCPU = r.now(), threadTime()-start
}

// exists is true in doubt.
func (r *cgroupReader) exists(s *cgroupState) bool {
	fd, err := r.openDir(s)
	if err != nil {
		return err != unix.ENOENT
	}
	defer unix.Close(fd)
	return r.link == "" || alive(fd)
}

// alive reports whether a cgroup that was opened by id has not been removed: old
// kernels find one that has, until the last reference to it is dropped (seen with
// 5.10). Its files are gone at once, and each one has this.
func alive(dir int) bool { return unix.Faccessat(dir, "cgroup.procs", unix.F_OK, 0) != unix.ENOENT }

// threadTime is the CPU time of this thread: that of others must not put the
// next walk off.
func threadTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail with a valid pointer
	return time.Duration(ts.Nano())
}

// cgroupWalk is a walk that is under way.
type cgroupWalk struct {
	r       *cgroupReader
	buf     []byte
	left    []*cgroupState // directories with others in them
	whole   bool           // all was seen
	skipped uint64         // groups for which there was no room
}

// list takes in the groups right below one.
func (w *cgroupWalk) list(s *cgroupState) error {
	dir, err := w.r.openDir(s)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	for {
		n, err := unix.ReadDirent(dir, w.buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return err
		}
		for name := range subdirectories(w.buf[:n]) {
			w.take(dir, string(name), s)
		}
	}
}

// take looks at an entry. A directory with two links has none in it
// (fs/kernfs/inode.c: kernfs_refresh_inode()) and need not be listed, which would
// be most of the work.
func (w *cgroupWalk) take(dir int, name string, parent *cgroupState) {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Dev != w.r.dev {
		return // it is gone by now, or is something else that was mounted there
	}
	s := w.r.known[st.Ino]
	if s == nil {
		if s = w.r.add(st.Ino, name, parent); s == nil {
			w.skipped++
			return
		}
	}
	if s.parent != parent || s.walk == w.r.walks {
		return // another group was mounted there: groups do not move
	}
	s.walk = w.r.walks
	s.name = name // v1 can rename
	if st.Nlink != 2 {
		w.left = append(w.left, s)
	}
}

// subdirectories yields the names of the directories among struct linux_dirent64
// (include/linux/dirent.h): inode, offset, of 8 bytes each, length of 2, type,
// name with a zero at its end.
func subdirectories(entries []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(entries) >= 20 {
			size := int(binary.NativeEndian.Uint16(entries[16:]))
			if size < 20 || size > len(entries) {
				return
			}
			kind := entries[18]
			name, _, _ := bytes.Cut(entries[19:size], []byte{0})
			entries = entries[size:]
			if s := string(name); s == "." || s == ".." || kind != unix.DT_DIR && kind != unix.DT_UNKNOWN {
				continue
			}
			if !yield(name) {
				return
			}
		}
	}
}
