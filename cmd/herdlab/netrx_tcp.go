// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const tcpChunk = 128 << 10

// tcpTraffic is ordinary: connections over lo, each with a sender that writes
// and a receiver that reads as fast as they can.
type tcpTraffic struct {
	ends []net.Conn // sender, receiver, sender, receiver, ...
}

func openTCPTraffic(cfg *netrxConfig) (*tcpTraffic, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on lo: %w", err)
	}
	defer listener.Close()
	t := &tcpTraffic{}
	for range cfg.Flows {
		sender, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return nil, fmt.Errorf("connect over lo: %w", err)
		}
		receiver, err := listener.Accept()
		if err != nil {
			return nil, fmt.Errorf("accept a connection over lo: %w", err)
		}
		t.ends = append(t.ends, sender, receiver)
	}
	return t, nil
}

// run keeps all connections busy until ctx ends.
func (t *tcpTraffic) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		for _, end := range t.ends {
			_ = end.SetDeadline(time.Now()) // of an open connection: cannot fail
		}
	})()
	errs := make([]error, len(t.ends))
	var wg sync.WaitGroup
	for i, end := range t.ends {
		transfer := end.Write
		if i%2 == 1 {
			transfer = end.Read
		}
		wg.Go(func() {
			chunk := make([]byte, tcpChunk)
			for errs[i] == nil {
				_, errs[i] = transfer(chunk)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("send over lo: %w", err)
		}
	}
	return nil
}

// report takes the device's count: what lo received was sent over lo.
func (t *tcpTraffic) report(o *netrxOracle) { o.PacketsSent = o.PacketsReceived }
