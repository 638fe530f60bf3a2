// Judges audit logs with an implementation that is not ours: Go's sumdb note and tlog. Reads a line
// "FOLDER [CHECKPOINT...]" at a time from standard input and answers "ok RECORDS CHECKPOINTS" or
// "bad WHY": every checkpoint of the log and those named is signed by one of the KEYs, its tiles make
// its root, each record is included, and each checkpoint continues the one before.
//
//	judge KEY.PUB... < LINES
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type folder string

func (f folder) Height() int                     { return 8 }
func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

// A tile of C2SP: as Go names them, but for the height; a partial one may be part of the whole.
func (f folder) read(t tlog.Tile) (data []byte, part bool, err error) {
	name := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
	name = filepath.Join(string(f), strings.Replace(name, "/data/", "/entries/", 1))
	data, err = os.ReadFile(name)
	if part = os.IsNotExist(err) && t.W < 256; part {
		data, err = os.ReadFile(strings.Split(name, ".p/")[0])
		if size := t.W * tlog.HashSize; t.L >= 0 && len(data) > size {
			data = data[:size]
		}
	}
	return data, part, err
}

func (f folder) ReadTiles(tiles []tlog.Tile) (all [][]byte, err error) {
	for _, t := range tiles {
		data, _, err := f.read(t)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func open(name string, keys note.Verifiers) (t tlog.Tree, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return t, err
	}
	n, err := note.Open(data, keys)
	if err != nil {
		return t, err
	}
	line := strings.Split(n.Text, "\n")
	if len(line) != 4 || line[0] != n.Sigs[0].Name || line[3] != "" {
		return t, fmt.Errorf("%s: three lines by the log itself should be there", name)
	}
	if _, err = fmt.Sscan(line[1], &t.N); err == nil {
		t.Hash, err = tlog.ParseHash(line[2])
	}
	return t, err
}

// Proves each record of the tree, and returns all its hashes.
func (f folder) check(t tlog.Tree) (tlog.HashReader, error) {
	index := make([]int64, tlog.StoredHashCount(t.N))
	for i := range index {
		index[i] = int64(i)
	}
	hashes, err := tlog.TileHashReader(t, f).ReadHashes(index)
	if err != nil {
		return nil, err
	}
	known := tlog.HashReaderFunc(func(wanted []int64) (all []tlog.Hash, err error) {
		for _, i := range wanted {
			all = append(all, hashes[i])
		}
		return all, nil
	})
	for i := int64(0); i < t.N; {
		width := t.N - i
		if width > 256 {
			width = 256
		}
		data, part, err := f.read(tlog.Tile{H: 8, L: -1, N: i / 256, W: int(width)})
		for end := i + width; err == nil && i < end; i++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("the bundle of record %d is cut", i)
			}
			record := data[2 : 2+binary.BigEndian.Uint16(data)]
			data = data[2+len(record):]
			var proof tlog.RecordProof
			if proof, err = tlog.ProveRecord(t.N, i, known); err == nil {
				err = tlog.CheckRecord(proof, t.N, t.Hash, i, tlog.RecordHash(record))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("record %d: %v", i, err)
		}
		if len(data) > 0 && !part {
			return nil, fmt.Errorf("bytes behind record %d", i-1)
		}
	}
	return known, nil
}

func (f folder) judge(keys note.Verifiers, kept []string) (string, error) {
	newest, err := open(filepath.Join(string(f), "checkpoint"), keys)
	if err != nil {
		return "", err
	}
	names, _ := filepath.Glob(filepath.Join(string(f), "checkpoints", "*"))
	trees := []tlog.Tree{newest}
	for i, name := range append(names, kept...) {
		t, err := open(name, keys)
		if err == nil && i < len(names) && fmt.Sprint(t.N) != filepath.Base(name) {
			err = fmt.Errorf("%s: is the checkpoint of %d records", name, t.N)
		}
		if err == nil && t.N > newest.N {
			err = fmt.Errorf("%s: newer than the log", name)
		}
		if err != nil {
			return "", err
		}
		trees = append(trees, t)
	}
	sort.SliceStable(trees, func(i, j int) bool { return trees[i].N < trees[j].N })
	for i, t := range trees {
		if t.N == 0 {
			continue
		}
		known, err := f.check(t)
		if err != nil {
			return "", err
		}
		if i > 0 && trees[i-1].N > 0 {
			proof, err := tlog.ProveTree(t.N, trees[i-1].N, known)
			if err == nil {
				err = tlog.CheckTree(proof, t.N, t.Hash, trees[i-1].N, trees[i-1].Hash)
			}
			if err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("ok %d %d", newest.N, len(names)), nil
}

func main() {
	var list []note.Verifier
	for _, name := range os.Args[1:] {
		text, err := os.ReadFile(name)
		if err == nil {
			var key note.Verifier
			key, err = note.NewVerifier(strings.TrimSpace(string(text)))
			list = append(list, key)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "judge:", name, err)
			os.Exit(2)
		}
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		field := strings.Fields(in.Text())
		said, err := folder(field[0]).judge(note.VerifierList(list...), field[1:])
		if err != nil {
			said = fmt.Sprintf("bad %q", err)
		}
		fmt.Println(said)
	}
}
