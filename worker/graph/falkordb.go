package graph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// FalkorDB holds a graph for each context under kijko:ctx:<id>: labels are types of nodes, relationship types those of links in upper case.
// What it relies on of FalkorDB is in docs/peers/falkordb.md.
type FalkorDB struct{ db *redis.Client }

const (
	// falkorBatch is the number of rows in one query that writes.
	falkorBatch = 5000
	falkorMark  = "kijko:mirror"
)

// NewFalkorDB connects to redis://[user:password@]host:port[/number], or rediss:// or unix://, at the first use.
func NewFalkorDB(address string) (*FalkorDB, error) {
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errors.New("FALKORDB_URL: must be redis://[user:password@]host:port") // the cause may quote the password
	}
	// Without ContextTimeoutEnabled a query outlives its context's deadline. Reads have another source; waiting for a retry is slower.
	o.ContextTimeoutEnabled, o.MaxRetries, o.Protocol, o.DisableIdentity = true, -1, 2, true
	o.DialTimeout, o.DialerRetries, o.ReadTimeout, o.WriteTimeout, o.PoolSize = 2*time.Second, 1, time.Minute, time.Minute, 16
	silence()
	return &FalkorDB{redis.NewClient(o)}, nil
}

// silence ends the client's own lines on stderr: each failure is an error of a call, which says where it belongs.
var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// Name is falkordb.
func (f *FalkorDB) Name() string { return "falkordb" }

// Close ends the connections.
func (f *FalkorDB) Close() error { return f.db.Close() }

// Ping reports whether the server answers and has graphs.
func (f *FalkorDB) Ping(ctx context.Context) error {
	if err := f.db.Do(ctx, "GRAPH.LIST").Err(); err != nil {
		return fmt.Errorf("falkordb: %w", err)
	}
	return nil
}

// Mark sets a key that an emptied store has lost.
func (f *FalkorDB) Mark(ctx context.Context) (known bool, err error) {
	fresh, err := f.db.SetNX(ctx, falkorMark, "1", 0).Result()
	if err != nil {
		return false, fmt.Errorf("falkordb: %w", err)
	}
	return !fresh, nil
}

func graphKey(id uuid.UUID) string      { return "kijko:ctx:" + id.String() }
func generationKey(id uuid.UUID) string { return "kijko:generation:" + id.String() }

// Holds reads the generation.
func (f *FalkorDB) Holds(ctx context.Context, id uuid.UUID) (int, error) {
	n, err := f.db.Get(ctx, generationKey(id)).Int()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	} else if err != nil {
		return 0, fmt.Errorf("falkordb: generation: %w", err)
	}
	return n, nil
}

// Delete drops the graph and its generation.
func (f *FalkorDB) Delete(ctx context.Context, id uuid.UUID) error {
	if err := f.db.Del(ctx, graphKey(id), generationKey(id)).Err(); err != nil {
		return fmt.Errorf("falkordb: delete graph: %w", err)
	}
	return nil
}

var falkorLabels = map[string]string{"file": "File", "module": "Module", "class": "Class", "function": "Function", "variable": "Variable"}

// Replace writes the graph beside the old one and then takes its place together with the number of the generation.
func (f *FalkorDB) Replace(ctx context.Context, id uuid.UUID, c *Copy) (err error) {
	staging := fmt.Sprintf("%s:next:%s", graphKey(id), uuid.NewString())
	defer func() {
		if err != nil {
			_ = f.db.Del(context.WithoutCancel(ctx), staging).Err()
		}
	}()
	types := make(map[string]string, len(c.Nodes))
	byType := map[string][]NodeRow{}
	for _, n := range c.Nodes {
		types[n.ID] = n.Type
		byType[n.Type] = append(byType[n.Type], n)
	}
	if _, err := f.query(ctx, staging, false, "RETURN 1", nil); err != nil { // an empty graph is a graph
		return err
	}
	for _, t := range typeNames {
		if len(byType[t]) == 0 {
			continue
		}
		if _, err := f.query(ctx, staging, false, "CREATE INDEX FOR (n:"+falkorLabels[t]+") ON (n.id)", nil); err != nil {
			return err
		}
		for rows := range slices.Chunk(byType[t], falkorBatch) {
			list := make([]any, len(rows))
			for i, n := range rows {
				list[i] = []any{n.ID, n.Name, n.Path, n.References, slices.Index(typeNames[:], n.Type), n.Lower, n.Language, n.StartLine, n.EndLine, tristate(n.Exported), n.Cluster}
			}
			if _, err := f.query(ctx, staging, false, "UNWIND $rows AS r CREATE (:"+falkorLabels[t]+" {id: r[0], name: r[1], path: r[2], references: r[3], rank: r[4], "+
				"lower: r[5], language: r[6], startLine: r[7], endLine: r[8], exported: r[9], cluster: r[10]})", map[string]any{"rows": list}); err != nil {
				return err
			}
		}
	}
	groups := map[[3]string][]LinkRow{}
	for _, l := range c.Links {
		k := [3]string{types[l.Source], types[l.Target], l.Type}
		groups[k] = append(groups[k], l)
	}
	for k, links := range groups {
		for rows := range slices.Chunk(links, falkorBatch) {
			list := make([]any, len(rows))
			for i, l := range rows {
				list[i] = []any{l.Source, l.Target, l.Count}
			}
			if _, err := f.query(ctx, staging, false, fmt.Sprintf("UNWIND $rows AS r MATCH (a:%s {id: r[0]}), (b:%s {id: r[1]}) CREATE (a)-[:%s {count: r[2]}]->(b)",
				falkorLabels[k[0]], falkorLabels[k[1]], strings.ToUpper(k[2])), map[string]any{"rows": list}); err != nil {
				return err
			}
		}
	}
	pipe := f.db.TxPipeline()
	pipe.Rename(ctx, staging, graphKey(id))
	pipe.Set(ctx, generationKey(id), c.Generation, 0)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("falkordb: switch graph: %w", err)
	}
	return nil
}

func tristate(b *bool) int {
	switch {
	case b == nil:
		return 0
	case *b:
		return 1
	}
	return -1
}

// query runs Cypher and returns the rows. Values are read from the compact reply: the verbose one writes booleans and lists as text.
func (f *FalkorDB) query(ctx context.Context, key string, readOnly bool, cypher string, parameters map[string]any) ([][]any, error) {
	command := "GRAPH.QUERY"
	if readOnly { // a plain query of a missing key makes an empty graph
		command = "GRAPH.RO_QUERY"
	}
	var text strings.Builder
	for i, name := range sortedKeys(parameters) {
		if i == 0 {
			text.WriteString("CYPHER ")
		}
		text.WriteString(name + "=")
		writeCypher(&text, parameters[name])
		text.WriteByte(' ')
	}
	text.WriteString(cypher)
	reply, err := f.db.Do(ctx, command, key, text.String(), "--compact").Slice()
	if err != nil {
		return nil, fmt.Errorf("falkordb: %w", err)
	}
	if len(reply) < 3 {
		return nil, nil // a write
	}
	raw, ok := reply[1].([]any)
	if !ok {
		return nil, errors.New("falkordb: a reply has no rows")
	}
	rows := make([][]any, len(raw))
	for i, r := range raw {
		cells, ok := r.([]any)
		if !ok {
			return nil, errors.New("falkordb: a row is no list")
		}
		for _, c := range cells {
			pair, ok := c.([]any)
			if !ok || len(pair) != 2 {
				return nil, errors.New("falkordb: a value has no type")
			}
			rows[i] = append(rows[i], pair[1])
		}
	}
	return rows, nil
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// writeCypher writes a literal. Cypher's are not JSON's: \u is kept as it stands, and only the backslash and the quote need one. A NUL would
// end the query.
func writeCypher(w *strings.Builder, v any) {
	switch v := v.(type) {
	case int:
		w.WriteString(strconv.Itoa(v))
	case string:
		w.WriteByte('"')
		w.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\x00", "").Replace(v))
		w.WriteByte('"')
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		writeCypher(w, list)
	case []any:
		w.WriteByte('[')
		for i, x := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			writeCypher(w, x)
		}
		w.WriteByte(']')
	}
}

// held runs a read, and refuses its result when the generation was or became another one meanwhile. Generations only rise, and a switch
// changes graph and number at once, so equal numbers before and after mean one graph in between.
func (f *FalkorDB) held(ctx context.Context, id uuid.UUID, generation int, read func() error) error {
	before, err := f.Holds(ctx, id)
	if err != nil {
		return err
	}
	if before != generation {
		return ErrStale
	}
	if err := read(); err != nil {
		return err
	}
	after, err := f.Holds(ctx, id)
	if err == nil && after != generation {
		return ErrStale
	}
	return err
}

const falkorNode = "%[1]s.id, %[1]s.name, %[1]s.path, %[1]s.references, %[1]s.rank, %[1]s.language, %[1]s.startLine, %[1]s.endLine, %[1]s.exported, %[1]s.cluster"

func nodeOf(cells []any) (n NodeRow) {
	text := func(i int) string { s, _ := cells[i].(string); return s }
	number := func(i int) int { v, _ := cells[i].(int64); return int(v) }
	n = NodeRow{ID: text(0), Name: text(1), Path: text(2), References: number(3), Language: text(5), StartLine: number(6), EndLine: number(7), Cluster: number(9)}
	n.Type = typeNames[min(max(number(4), 0), len(typeNames)-1)]
	n.Color = ColorOf(n.Type)
	if e := number(8); e != 0 {
		n.Exported = new(e > 0)
	}
	return n
}

// Read answers GraphData.
func (f *FalkorDB) Read(ctx context.Context, id uuid.UUID, generation int, filter Filter) (a Answer, err error) {
	label := ""
	if filter.Type != "" {
		label = ":" + falkorLabels[filter.Type]
	}
	conditions := func(n string) (all []string) {
		if filter.MinReferences > 0 {
			all = append(all, n+".references >= $minimum")
		}
		if filter.Search != "" {
			all = append(all, n+".lower CONTAINS $search")
		}
		if filter.Path != "" {
			all = append(all, n+".path STARTS WITH $path")
		}
		return all
	}
	where := func(all []string) string {
		if len(all) == 0 {
			return ""
		}
		return " WHERE " + strings.Join(all, " AND ")
	}
	parameters := map[string]any{"minimum": filter.MinReferences, "search": filter.Search, "path": filter.Path, "most": filter.Limit}
	kept := where(conditions("n"))
	err = f.held(ctx, id, generation, func() error {
		rows, err := f.query(ctx, graphKey(id), true, "MATCH (n"+label+")"+kept+" RETURN "+fmt.Sprintf(falkorNode, "n")+
			" ORDER BY n.references DESC, n.rank, n.name, n.id LIMIT $most", parameters)
		if err != nil {
			return err
		}
		for _, r := range rows {
			a.Nodes = append(a.Nodes, nodeOf(r))
		}
		if a.Links, err = f.links(ctx, id, a.Nodes, filter.LinkTypes); err != nil {
			return err
		}
		a.TotalNodes, a.TotalLinks = len(a.Nodes), len(a.Links)
		if len(a.Nodes) < filter.Limit {
			return nil
		}
		if a.TotalNodes, err = f.count(ctx, id, "MATCH (n"+label+")"+kept+" RETURN count(n)", parameters); err != nil {
			return err
		}
		both := append(append([]string{"type(e) IN $types"}, conditions("n")...), conditions("m")...)
		parameters["types"] = linkTypes(filter.LinkTypes)
		a.TotalLinks, err = f.count(ctx, id, "MATCH (n"+label+")-[e]->(m"+label+")"+where(both)+" RETURN count(e)", parameters)
		return err
	})
	return a, err
}

// linkTypes are relationship types; none asked for are all that answers have.
func linkTypes(asked []string) []string {
	if len(asked) == 0 {
		asked = []string{"calls", "extends", "implements", "imports"}
	}
	types := make([]string, len(asked))
	for i, t := range asked {
		types[i] = strings.ToUpper(t)
	}
	return types
}

func (f *FalkorDB) count(ctx context.Context, id uuid.UUID, cypher string, parameters map[string]any) (int, error) {
	rows, err := f.query(ctx, graphKey(id), true, cypher, parameters)
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return 0, errors.New("falkordb: a count has no value")
	}
	n, _ := rows[0][0].(int64)
	return int(n), nil
}

// byLabel groups ids, because indexes belong to labels.
func byLabel(nodes []NodeRow) map[string][]string {
	groups := map[string][]string{}
	for _, n := range nodes {
		groups[falkorLabels[n.Type]] = append(groups[falkorLabels[n.Type]], n.ID)
	}
	return groups
}

// links reads the links among nodes.
func (f *FalkorDB) links(ctx context.Context, id uuid.UUID, nodes []NodeRow, types []string) ([]LinkRow, error) {
	in := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		in[n.ID] = true
	}
	links := []LinkRow{}
	for label, ids := range byLabel(nodes) {
		rows, err := f.query(ctx, graphKey(id), true, "MATCH (a:"+label+")-[e]->(b) WHERE a.id IN $ids AND type(e) IN $types RETURN a.id, b.id, type(e), e.count",
			map[string]any{"ids": ids, "types": linkTypes(types)})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			source, _ := r[0].(string)
			target, _ := r[1].(string)
			kind, _ := r[2].(string)
			count, _ := r[3].(int64)
			if in[target] {
				links = append(links, LinkRow{source, target, strings.ToLower(kind), int(count)})
			}
		}
	}
	sortLinks(links)
	return links, nil
}

// one reads a node by its id.
func (f *FalkorDB) one(ctx context.Context, id uuid.UUID, node string) (NodeRow, error) {
	for _, t := range typeNames {
		rows, err := f.query(ctx, graphKey(id), true, "MATCH (n:"+falkorLabels[t]+" {id: $id}) RETURN "+fmt.Sprintf(falkorNode, "n"), map[string]any{"id": node})
		if err != nil {
			return NodeRow{}, err
		}
		if len(rows) > 0 {
			return nodeOf(rows[0]), nil
		}
	}
	return NodeRow{}, ErrStale
}

// step reads the nodes one link away in either direction that were not seen, each with the smallest node that it was reached from.
func (f *FalkorDB) step(ctx context.Context, id uuid.UUID, from []NodeRow, seen map[string]string) (next []NodeRow, err error) {
	parents := map[string]string{}
	for label, ids := range byLabel(from) {
		rows, err := f.query(ctx, graphKey(id), true, "MATCH (a:"+label+")-[]-(b) WHERE a.id IN $ids RETURN DISTINCT "+fmt.Sprintf(falkorNode, "b")+", a.id", map[string]any{"ids": ids})
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			n := nodeOf(r)
			parent, _ := r[len(r)-1].(string)
			if _, ok := seen[n.ID]; ok {
				continue
			}
			if old, ok := parents[n.ID]; !ok {
				next = append(next, n)
			} else if old < parent {
				continue
			}
			parents[n.ID] = parent
		}
	}
	for n, p := range parents {
		seen[n] = p
	}
	return next, nil
}

// Neighbors answers a node and those around it, nearer ones first where the limit cuts.
func (f *FalkorDB) Neighbors(ctx context.Context, id uuid.UUID, generation int, node string, depth, limit int) (a Answer, err error) {
	err = f.held(ctx, id, generation, func() error {
		first, err := f.one(ctx, id, node)
		if err != nil {
			return err
		}
		level, seen := []NodeRow{first}, map[string]string{first.ID: ""}
		a = Answer{Nodes: level, Rest: []NodeRow{}}
		for range depth {
			if len(level) == 0 || len(a.Rest) >= limit {
				break
			}
			if level, err = f.step(ctx, id, level, seen); err != nil {
				return err
			}
			sortNodes(level)
			level = level[:min(len(level), limit-len(a.Rest))]
			a.Rest = append(a.Rest, level...)
		}
		sortNodes(a.Rest)
		a.Links, err = f.links(ctx, id, append([]NodeRow{first}, a.Rest...), nil)
		return err
	})
	return a, err
}

// Path answers a shortest way of at most six steps, the same one as Postgres does: both ends are searched at once, level by level, always
// from the end with the smaller level.
func (f *FalkorDB) Path(ctx context.Context, id uuid.UUID, generation int, from, to string) (a Answer, err error) {
	a = Answer{Nodes: []NodeRow{}, Links: []LinkRow{}}
	err = f.held(ctx, id, generation, func() error {
		var sides [2]struct {
			level []NodeRow
			seen  map[string]string
		}
		known := map[string]NodeRow{}
		for i, node := range []string{from, to} {
			n, err := f.one(ctx, id, node)
			if err != nil {
				return err
			}
			sides[i].level, sides[i].seen = []NodeRow{n}, map[string]string{n.ID: ""}
			known[n.ID] = n
		}
		meet := ""
		if from == to {
			meet = from
		}
		for hops := 0; hops < 6 && meet == "" && len(sides[0].level) > 0 && len(sides[1].level) > 0; hops++ {
			s, other := &sides[0], &sides[1]
			if len(s.level) > len(other.level) {
				s, other = other, s
			}
			if s.level, err = f.step(ctx, id, s.level, s.seen); err != nil {
				return err
			}
			for _, n := range s.level {
				known[n.ID] = n
				if _, ok := other.seen[n.ID]; ok && (meet == "" || n.ID < meet) {
					meet = n.ID
				}
			}
		}
		if meet == "" {
			return nil
		}
		for n := meet; n != ""; n = sides[0].seen[n] {
			a.Nodes = append(a.Nodes, known[n])
		}
		slices.Reverse(a.Nodes)
		for n := sides[1].seen[meet]; n != ""; n = sides[1].seen[n] {
			a.Nodes = append(a.Nodes, known[n])
		}
		place := map[string]int{}
		for i, n := range a.Nodes {
			place[n.ID] = i
		}
		links, err := f.links(ctx, id, a.Nodes, nil)
		for _, l := range links {
			if d := place[l.Source] - place[l.Target]; d == 1 || d == -1 {
				a.Links = append(a.Links, l)
			}
		}
		return err
	})
	a.TotalNodes, a.TotalLinks = len(a.Nodes), len(a.Links)
	return a, err
}

// Statistics counts what the mirror holds.
func (f *FalkorDB) Statistics(ctx context.Context, id uuid.UUID, generation int) (nodes, links int, err error) {
	err = f.held(ctx, id, generation, func() (err error) {
		if nodes, err = f.count(ctx, id, "MATCH (n) RETURN count(n)", nil); err != nil {
			return err
		}
		links, err = f.count(ctx, id, "MATCH ()-[e]->() WHERE type(e) IN $types RETURN count(e)", map[string]any{"types": linkTypes(nil)})
		return err
	})
	return nodes, links, err
}
