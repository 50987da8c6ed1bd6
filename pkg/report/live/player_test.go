// SPDX-License-Identifier: Apache-2.0

package live

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herdtrace/herdtrace/pkg/report"
)

const sec = time.Second

// TestPlays: at the pace at which it was recorded, and stays at the end.
func TestPlays(t *testing.T) {
	c := &tape{ticks: []time.Duration{0, 1 * sec, 1500 * time.Millisecond, 4 * sec}}
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		began := time.Now()
		r.want("at once", DeckState{Length: 4 * sec, Speed: 1})
		for _, at := range c.ticks {
			time.Sleep(at - time.Since(began))
			synctest.Wait()
			r.want("playing", DeckState{At: at, Length: 4 * sec, Speed: 1, AtEnd: at == 4*sec})
		}
		time.Sleep(time.Hour)
		r.want("at the end", DeckState{At: 4 * sec, Length: 4 * sec, Speed: 1, AtEnd: true})
		r.press(SeekTo, 1100*time.Millisecond)
		r.want("back from the end", DeckState{At: sec, Length: 4 * sec, Speed: 1})
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		r.want("and on", DeckState{At: 1500 * time.Millisecond, Length: 4 * sec, Speed: 1})
		time.Sleep(time.Minute)
		synctest.Wait()
		r.wantOnce(c.ticks)
		r.quit()
		<-r.done
		if r.err != nil || r.sum.Last.Elapsed != 4*sec || c.open != 0 {
			t.Errorf("error %v, summary of %s, %d open", r.err, r.sum.Last.Elapsed, c.open)
		}
	})
}

func TestSpeed(t *testing.T) {
	for _, tt := range []struct {
		speed float64
		keys  []DeckAction
		want  float64
	}{
		{1, nil, 1}, {0, nil, 1}, {4, nil, 4},
		{1, []DeckAction{Faster}, 2}, {1, []DeckAction{Faster, Faster}, 4}, {1, []DeckAction{Slower, Slower}, 0.25},
		{1, slices.Repeat([]DeckAction{Faster}, 9), 64}, {1, slices.Repeat([]DeckAction{Slower}, 9), 0.125},
		{64, []DeckAction{Faster, Slower}, 32}, {0.125, []DeckAction{Slower, Faster}, 0.25},
	} {
		c := ticks(1000, sec)
		playing(t, PlayerOptions{Open: c.Open, Speed: tt.speed}, func(r *rig) {
			for _, a := range tt.keys {
				r.press(a, 0)
			}
			time.Sleep(8 * sec)
			synctest.Wait()
			at := time.Duration(8 * tt.want * float64(sec))
			r.want("8 s later", DeckState{At: at.Truncate(sec), Length: 999 * sec, Speed: tt.want})
		})
	}
}

// TestSpeedInTheMiddle: what has passed of the time to the next tick stays so.
func TestSpeedInTheMiddle(t *testing.T) {
	c := ticks(100, 10*sec)
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		time.Sleep(4 * sec) // 6 are left
		r.press(Faster, 0)
		time.Sleep(1 * sec) // 4
		r.press(PlayPause, 0)
		time.Sleep(time.Hour)
		r.press(Slower, 0)
		r.press(Slower, 0)
		r.want("paused", DeckState{Length: 990 * sec, Speed: 0.5, Paused: true})
		r.press(PlayPause, 0)
		time.Sleep(8*sec - time.Millisecond)
		synctest.Wait()
		r.want("before", DeckState{Length: 990 * sec, Speed: 0.5})
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.want("then", DeckState{At: 10 * sec, Length: 990 * sec, Speed: 0.5})
	})
}

// TestDeckActions: what each key does to a recording of 11 ticks, of which the
// 5th is shown, played or paused.
func TestDeckActions(t *testing.T) {
	type key struct {
		a  DeckAction
		by time.Duration
	}
	for _, tt := range []struct {
		name   string
		keys   []key
		at     int
		paused bool
		head   int // the last tick that other sinks got
	}{
		{"pause", []key{{PlayPause, 0}}, 4, true, 4},
		{"pause twice", []key{{PlayPause, 0}, {PlayPause, 0}}, 4, false, 4},
		{"step", []key{{StepForward, 0}}, 5, true, 5},
		{"step twice", []key{{StepForward, 0}, {StepForward, 0}}, 6, true, 6},
		{"step back", []key{{StepBack, 0}}, 3, true, 4},
		{"step back twice", []key{{StepBack, 0}, {StepBack, 0}}, 2, true, 4},
		{"step back and on", []key{{StepBack, 0}, {StepForward, 0}, {StepForward, 0}}, 5, true, 5},
		{"step back, play", []key{{StepBack, 0}, {PlayPause, 0}}, 3, false, 4},
		{"step back too far", slices.Repeat([]key{{StepBack, 0}}, 9), 0, true, 4},
		{"step too far", slices.Repeat([]key{{StepForward, 0}}, 9), 10, true, 10},
		{"seek on", []key{{SeekBy, 3 * sec}}, 7, false, 7},
		{"seek on by a little", []key{{SeekBy, 1}}, 5, false, 5},
		{"seek on between two", []key{{SeekBy, 2500 * time.Millisecond}}, 6, false, 6},
		{"seek on too far", []key{{SeekBy, time.Hour}}, 10, false, 10},
		{"seek on, as far as can be", []key{{SeekBy, math.MaxInt64}, {SeekBy, math.MaxInt64}}, 10, false, 10},
		{"seek on too far and back", []key{{SeekBy, time.Hour}, {SeekBy, -2 * sec}}, 8, false, 10},
		{"seek back", []key{{SeekBy, -2 * sec}}, 2, false, 4},
		{"seek back by a little", []key{{SeekBy, -1}}, 3, false, 4},
		{"seek back too far", []key{{SeekBy, -time.Hour}, {SeekBy, math.MinInt64}}, 0, false, 4},
		{"seek back and on", []key{{SeekBy, -3 * sec}, {SeekBy, 2 * sec}}, 3, false, 4},
		{"seek by nothing", []key{{SeekBy, 0}}, 4, false, 4},
		{"seek to", []key{{SeekTo, 2 * sec}}, 2, false, 4},
		{"seek to between two", []key{{SeekTo, 2999 * time.Millisecond}}, 2, false, 4},
		{"seek to ahead", []key{{SeekTo, 9 * sec}}, 9, false, 9},
		{"seek to the begin", []key{{SeekTo, 0}}, 0, false, 4},
		{"seek to before it", []key{{SeekTo, -5}}, 0, false, 4},
		{"seek to the end", []key{{SeekTo, math.MaxInt64}}, 10, false, 10},
		{"seek to where it is", []key{{SeekTo, 4 * sec}}, 4, false, 4},
		{"paused, seek on", []key{{PlayPause, 0}, {SeekBy, 3 * sec}}, 7, true, 7},
		{"paused, seek back", []key{{PlayPause, 0}, {SeekBy, -3 * sec}}, 1, true, 4},
		{"seek to the end, step back, step", []key{{SeekTo, time.Hour}, {StepBack, 0}, {StepBack, 0}, {StepForward, 0}}, 9, true, 10},
	} {
		for _, slow := range []time.Duration{0, time.Millisecond} {
			c := ticks(11, sec)
			c.slow = slow
			playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
				time.Sleep(4*sec + 100*time.Millisecond)
				synctest.Wait()
				r.want(tt.name+": before", DeckState{At: 4 * sec, Length: 10 * sec, Speed: 1})
				for _, k := range tt.keys {
					r.Press(k.a, k.by)
					if slow == 0 { // else the next one comes while this one is heeded
						synctest.Wait()
					}
				}
				time.Sleep(100 * slow)
				synctest.Wait()
				r.want(tt.name, DeckState{At: c.ticks[tt.at], Length: 10 * sec, Speed: 1, Paused: tt.paused, AtEnd: tt.at == 10})
				if slow == 0 {
					r.wantOnce(c.ticks[:tt.head+1])
				}
				for i, s := range r.board.given() {
					if s.Frame.Elapsed != c.ticks[i] {
						t.Errorf("%s: the screen was given %s as tick %d", tt.name, s.Frame.Elapsed, i)
					}
				}
				if !tt.paused {
					time.Sleep(time.Minute)
					synctest.Wait()
					r.want(tt.name+": on to the end", DeckState{At: 10 * sec, Length: 10 * sec, Speed: 1, AtEnd: true})
					r.wantOnce(c.ticks)
				}
			})
			if c.open != 0 {
				t.Errorf("%s: %d are left open", tt.name, c.open)
			}
		}
	}
}

// TestSeeksTheSame: wherever the screen is put, it is given what a straight run
// gives it; and other sinks get that once.
func TestSeeksTheSame(t *testing.T) {
	for name, c := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
				r.press(PlayPause, 0)
				rnd := rand.New(rand.NewPCG(1, 2))
				var way []int
				for i := range c.steps { // there, and back to another one
					way = append(way, i, rnd.IntN(len(c.steps)))
				}
				for _, i := range way {
					r.press(SeekTo, c.steps[i].Frame.Elapsed)
					checkSame(t, "the screen", r.board.given(), c.steps[:i+1])
					if r.State().At != c.steps[i].Frame.Elapsed || r.State().Error != "" {
						t.Errorf("tick %d: %+v", i, r.State())
					}
				}
				checkSame(t, "another sink", r.log.steps, c.steps)
				for i := len(c.steps) - 1; i >= 0; i-- {
					r.press(SeekTo, c.steps[i].Frame.Elapsed)
					checkSame(t, "the screen, backwards", r.board.given(), c.steps[:i+1])
				}
				r.quit()
				<-r.done
				if r.err != nil || !same(r.sum, c.sum) {
					t.Errorf("error %v, and the summary is not that of a straight run", r.err)
				}
			})
		})
	}
}

func checkSame(t *testing.T, who string, got, want []*report.Step) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s got %d ticks, want %d", who, len(got), len(want))
	}
	for i := range got {
		if !same(got[i], want[i]) {
			t.Fatalf("%s: tick %d is not that of a straight run", who, i)
		}
	}
}

// TestSeekIsSilent: nothing is drawn on the way, and while that takes a while the
// user is told, can go elsewhere, and can quit.
func TestSeekIsSilent(t *testing.T) {
	c := ticks(1000, sec)
	c.slow = 10 * time.Millisecond
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		time.Sleep(sec)
		r.press(PlayPause, 0)
		length := 999 * sec
		r.press(SeekTo, 600*sec)
		drawn := r.board.pictures()
		if s := r.State(); s.Seeking {
			t.Errorf("at once: %+v", s)
		}
		time.Sleep(sec)
		synctest.Wait()
		if s := r.State(); !s.Seeking || s.At > sec || len(r.board.given()) < 50 || r.board.pictures() != drawn {
			t.Errorf("after 1 s: %+v, %d ticks of the way", s, len(r.board.given()))
		}
		r.press(SeekBy, -100*sec)
		time.Sleep(20 * sec)
		synctest.Wait()
		r.want("there", DeckState{At: 500 * sec, Length: length, Speed: 1, Paused: true})
		if r.board.pictures() != drawn+1 {
			t.Errorf("%d pictures were drawn on the way", r.board.pictures()-drawn-1)
		}
		r.press(SeekBy, -100*sec) // 4 s of way
		time.Sleep(sec)
		r.press(SeekBy, -100*sec) // 300
		r.press(StepBack, 0)      // 299
		r.press(StepBack, 0)      // 298
		opened := c.opened
		time.Sleep(5 * sec)
		synctest.Wait()
		r.want("back", DeckState{At: 298 * sec, Length: length, Speed: 1, Paused: true})
		if c.opened != opened {
			t.Error("it went back to the begin though the goal was ahead")
		}
		r.press(SeekTo, 100*sec)
		time.Sleep(sec / 2)
		r.quit()
		<-r.done
		if n := len(r.board.given()); n >= 100 || r.err != nil || r.sum.Last.Elapsed != 500*sec || !r.board.held {
			t.Errorf("it did not quit on the way: %d ticks, error %v, summary of %s", n, r.err, r.sum.Last.Elapsed)
		}
		r.wantOnce(c.ticks[:501])
	})
}

// TestPressNeverWaits: also where the recording delivers nothing.
func TestPressNeverWaits(t *testing.T) {
	c := ticks(3, sec)
	c.slow, c.once = time.Hour, true
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		began := time.Now()
		for range 100 {
			for a := PlayPause; a <= SeekTo; a++ {
				r.press(a, sec)
			}
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %s", d)
		}
	})
}

// TestBrokenRecording: what could be read is played, the rest is an error to the
// user now and to the caller in the end.
func TestBrokenRecording(t *testing.T) {
	c := ticks(4, sec)
	c.fail = errTape
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		r.want("before", DeckState{Length: time.Hour, Speed: 1})
		time.Sleep(time.Minute)
		synctest.Wait()
		const text = "read next sample: line 7: not JSON"
		r.want("there", DeckState{At: 3 * sec, Length: 3 * sec, Speed: 1, AtEnd: true, Error: text})
		r.press(SeekTo, sec)
		r.want("back", DeckState{At: sec, Length: 3 * sec, Speed: 1})
		r.press(SeekTo, time.Hour)
		r.want("there again", DeckState{At: 3 * sec, Length: 3 * sec, Speed: 1, AtEnd: true, Error: text})
		r.quit()
		<-r.done
		if !errors.Is(r.err, errTape) || r.err.Error() != text || r.sum.Last.Elapsed != 3*sec {
			t.Errorf("error %v, summary %+v", r.err, r.sum)
		}
		r.wantOnce(c.ticks)
	})
}

// TestOneWay: what comes through a pipe plays on, and says why it cannot go back.
func TestOneWay(t *testing.T) {
	c := ticks(10, sec)
	c.once = true
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		time.Sleep(3*sec + sec/10)
		r.press(StepBack, 0)
		r.want("back", DeckState{At: 3 * sec, Speed: 1, Paused: true, Error: ErrOneWay.Error()})
		r.press(PlayPause, 0)
		time.Sleep(sec)
		synctest.Wait()
		r.press(SeekBy, 2*sec)
		r.want("on", DeckState{At: 6 * sec, Speed: 1})
		time.Sleep(time.Minute)
		synctest.Wait()
		r.want("end", DeckState{At: 9 * sec, Length: 9 * sec, Speed: 1, AtEnd: true})
		r.wantOnce(c.ticks)
	})
}

// TestRecordingGotShorter: somebody wrote it anew. The screen stays where it came to.
func TestRecordingGotShorter(t *testing.T) {
	c := ticks(10, sec)
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		r.press(SeekTo, time.Hour)
		c.mu.Lock()
		c.short = 3
		c.mu.Unlock()
		r.press(StepBack, 0)
		r.want("short", DeckState{At: 2 * sec, Length: 9 * sec, Speed: 1, Paused: true, AtEnd: true})
		r.press(SeekTo, sec)
		r.want("back", DeckState{At: sec, Length: 9 * sec, Speed: 1, Paused: true})
		r.wantOnce(c.ticks)
	})
}

// TestRandomKeys: whatever is pressed when, the screen was given all up to what it
// shows, and other sinks got each tick once.
func TestRandomKeys(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		c := &tape{slow: time.Duration(rnd.IntN(3)) * 30 * time.Millisecond}
		for at := time.Duration(0); len(c.ticks) < 1+rnd.IntN(60); at += time.Duration(rnd.IntN(3000)) * time.Millisecond {
			c.ticks = append(c.ticks, at)
		}
		if rnd.IntN(4) == 0 {
			c.fail = errTape
		}
		playing(t, PlayerOptions{Open: c.Open, Speed: float64(int(1) << rnd.IntN(4))}, func(r *rig) {
			for range 60 {
				r.Press(DeckAction(rnd.IntN(int(SeekTo)+1)), time.Duration(rnd.IntN(120)-60)*sec)
				if rnd.IntN(2) == 0 {
					time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
				}
			}
			time.Sleep(time.Minute) // it may be on its way
			if !r.State().Paused {
				r.press(PlayPause, 0)
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			given, at := r.board.given(), r.State().At
			if s := r.State(); s.Seeking || len(given) == 0 || given[len(given)-1].Frame.Elapsed != at || r.board.shown() != at {
				t.Fatalf("seed %d: %+v, the screen shows %s of %d ticks", seed, s, r.board.shown(), len(given))
			}
			for i, s := range given {
				if s.Frame.Elapsed != c.ticks[i] {
					t.Fatalf("seed %d: the screen was given %s as tick %d", seed, s.Frame.Elapsed, i)
				}
			}
			r.wantOnce(c.ticks[:max(len(r.log.steps), len(given))])
		})
		if t.Failed() || c.open != 0 {
			t.Fatalf("seed %d: %d are left open", seed, c.open)
		}
	}
}

func TestFrom(t *testing.T) {
	c := ticks(10, sec)
	playing(t, PlayerOptions{Open: c.Open, From: 4500 * time.Millisecond}, func(r *rig) {
		r.want("from", DeckState{At: 4 * sec, Length: 9 * sec, Speed: 1})
		r.wantOnce(c.ticks[:5])
	})
}

// TestPlaysNothing: a recording without a tick, from its begin and from elsewhere.
func TestPlaysNothing(t *testing.T) {
	for _, from := range []time.Duration{0, 5 * sec} {
		playsNothing(t, PlayerOptions{Open: (&tape{once: true}).Open, From: from})
	}
}

func playsNothing(t *testing.T, o PlayerOptions) {
	playing(t, o, func(r *rig) {
		if s := r.State(); !s.AtEnd || s.Error != "the recording has no samples" {
			t.Errorf("from %s: %+v", o.From, s)
		}
		for a := PlayPause; a <= SeekTo; a++ {
			r.press(a, sec)
		}
		if s := r.State(); !s.AtEnd || s.At != 0 || s.Length != 0 {
			t.Errorf("%+v", s)
		}
		r.quit()
		<-r.done
		if r.err != nil || r.sum.Last != nil {
			t.Errorf("error %v, summary %+v", r.err, r.sum)
		}
	})
}

// TestSinkErrorEndsThePlay: as it ends a Run.
func TestSinkErrorEndsThePlay(t *testing.T) {
	c := ticks(10, sec)
	playing(t, PlayerOptions{Open: c.Open}, func(r *rig) {
		time.Sleep(2 * sec)
		synctest.Wait()
		r.board.mu.Lock()
		r.board.err = errTape
		r.board.mu.Unlock()
		<-r.done
		if !errors.Is(r.err, errTape) || r.sum.Last.Elapsed != 3*sec {
			t.Errorf("error %v, summary of %s", r.err, r.sum.Last.Elapsed)
		}
	})
}

// TestLateTicks: after a stop of the whole program it goes on at its pace, and
// does not run after the time that it lost.
func TestLateTicks(t *testing.T) {
	p := pace{speed: 2, since: time.Unix(0, 0)}
	if w := p.wait(sec, time.Unix(0, 0)); w != sec/2 {
		t.Errorf("wait %s", w)
	}
	p.settle(time.Unix(0, int64(sec/2+5*time.Millisecond))) // a little late: made up for
	p.shown(sec)
	if w := p.wait(sec, p.since); w != sec/2-5*time.Millisecond {
		t.Errorf("after a tick that was 5 ms late: wait %s", w)
	}
	p.settle(time.Unix(1000, 0))
	p.shown(sec)
	if w := p.wait(sec, p.since); w != sec/2 {
		t.Errorf("after a tick that was 1000 s late: wait %s", w)
	}
}
