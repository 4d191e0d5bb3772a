package engine

import (
	"bytes"
	"encoding/base64"
	"errors"
	"unicode/utf8"
)

// The packets of Engine.IO. Each begins with its digit.
const (
	open    = '0'
	closing = '1'
	ping    = '2'
	pong    = '3'
	message = '4'
	upgrade = '5'
	noop    = '6'

	// binaryMark replaces the digit before base64, when a body is text.
	binaryMark = 'b'
	// separator separates the packets of one body.
	separator = '\x1e'
)

// Message is the content of a message packet. Its bytes are shared and must not be changed.
type Message struct {
	// Head is written before Data. Messages that differ only at their beginning can thus share Data. Only text messages have it.
	Head   string
	Data   []byte
	Binary bool
	// Series: a newer message of the same series replaces this one while it waits. Empty: no message does.
	Series string
	// Free messages do not count against the queue's limits. It is for replays, which have a separate limit.
	Free bool
}

type packet struct {
	kind byte
	Message
}

// size is about the number of bytes that the packet takes on the wire.
func (p packet) size() int { return len(p.Head) + len(p.Data) + 2 }

var errPacket = errors.New("malformed packet")

// parse reads a text packet from a client.
func parse(raw []byte) (packet, error) {
	if len(raw) == 0 {
		return packet{}, errPacket
	}
	kind, data := raw[0], raw[1:]
	switch {
	case kind == binaryMark:
		decoded, err := base64.StdEncoding.AppendDecode(nil, data)
		if err != nil {
			return packet{}, errPacket
		}
		return packet{message, Message{Data: decoded, Binary: true}}, nil
	case kind == message && utf8.Valid(data), kind == pong, kind == closing, kind == noop:
		return packet{kind, Message{Data: data}}, nil
	}
	// The other packets are sent by the server only, or are valid in an upgrade only.
	return packet{}, errPacket
}

// parseBody splits a body into packets. Packets before a malformed one are passed to each, as they are over a WebSocket.
func parseBody(body []byte, each func(packet) bool) error {
	for raw := range bytes.SplitSeq(body, []byte{separator}) {
		p, err := parse(raw)
		if err != nil {
			return err
		}
		if !each(p) {
			return nil
		}
	}
	return nil
}

// appendBody joins packets into one body.
func appendBody(body []byte, packets []packet) []byte {
	for i, p := range packets {
		if i > 0 {
			body = append(body, separator)
		}
		if p.Binary {
			body = base64.StdEncoding.AppendEncode(append(body, binaryMark), p.Data)
			continue
		}
		body = append(append(append(body, p.kind), p.Head...), p.Data...)
	}
	return body
}

// queue holds the packets that wait for one client. It takes memory only while packets wait. Not safe for concurrent use.
type queue struct {
	packets []packet
	bytes   int
	// counted and countedBytes are the part that counts against the limits. inFlight is held by the writer and still counts.
	counted, countedBytes   int
	inFlight, inFlightBytes int

	maxPackets, maxBytes int
}

// push appends a packet. A newer one of a series replaces the older one. It reports false when the queue is full.
func (q *queue) push(p packet) bool {
	if p.Series != "" {
		for i, old := range q.packets {
			if old.Series == p.Series && !old.Free {
				q.bytes -= old.size()
				q.counted, q.countedBytes = q.counted-1, q.countedBytes-old.size()
				q.packets = append(q.packets[:i], q.packets[i+1:]...)
				break
			}
		}
	}
	if !p.Free {
		if q.counted+q.inFlight >= q.maxPackets || q.countedBytes+q.inFlightBytes+p.size() > q.maxBytes {
			return false
		}
		q.counted, q.countedBytes = q.counted+1, q.countedBytes+p.size()
	}
	q.packets = append(q.packets, p)
	q.bytes += p.size()
	return true
}

// take returns all packets, nil when there are none. The queue's memory goes with them.
func (q *queue) take() []packet {
	out := q.packets
	q.inFlight, q.inFlightBytes = q.counted, q.countedBytes
	q.drop()
	return out
}

// takePart returns the oldest packets, as many packets and bytes as one answer holds, and at least one packet.
func (q *queue) takePart(packets, bytes int) []packet {
	n, size := 0, 0
	for ; n < len(q.packets) && n < packets; n++ {
		if size += q.packets[n].size(); n > 0 && size > bytes {
			break
		}
	}
	if n == len(q.packets) {
		return q.take()
	}
	out := q.packets[:n:n]
	q.packets, q.inFlight, q.inFlightBytes = q.packets[n:], 0, 0
	for _, p := range out {
		q.bytes -= p.size()
		if !p.Free {
			q.inFlight, q.inFlightBytes = q.inFlight+1, q.inFlightBytes+p.size()
		}
	}
	q.counted, q.countedBytes = q.counted-q.inFlight, q.countedBytes-q.inFlightBytes
	return out
}

// drop discards the waiting packets.
func (q *queue) drop() { q.packets, q.bytes, q.counted, q.countedBytes = nil, 0, 0, 0 }
