package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/herald-push/herald/services/internal/ask"
	"github.com/herald-push/herald/services/internal/config"
	"golang.org/x/term"
)

var topCommand = command{
	name: "top", does: "watch connections, rates and slow clients in the terminal",
	about: `
Shows how the Herald that runs on this machine does, or, with -nats, another deployment: connections, messages
a second, latency, queues, every service, and the clients that are furthest behind. It asks the services as the
console does. In a terminal it goes on until q or Ctrl-C: p pauses, s sorts by what was sent. Elsewhere, with
TERM=dumb and with -once, it prints the figures of one second and ends.`,
	examples: []string{
		"herald top",
		"herald top -once",
		"herald top -nats nats://nats:4222",
	},
	start: func(c *call) task {
		t := &top{cfg: defaultConfig(), every: 2 * time.Second, rows: 10, std: c.std, draws: drawn(c.env)}
		return task{
			settings: append([]config.Setting{
				{Flag: "once", Help: "print the figures of one second, and end", Into: &t.once},
				{Flag: "interval", Help: "time between two looks, 1s to 1m", Into: &t.every},
				{Flag: "clients", Help: "how many clients are listed, up to 100", Into: &t.rows},
				{Flag: "data", Env: "HERALD_DATA", Help: "data folder of the Herald that runs on this machine",
					NotEmpty: true, Into: &t.cfg.Data},
				{Flag: "nats", Env: "HERALD_NATS_URL", Help: "NATS servers of another deployment", Secret: true,
					Into: &t.cfg.NATS.URL},
			}, t.cfg.NATS.SecuritySettings()...),
			run: t.run,
		}
	},
}

// top is one run of herald top.
type top struct {
	cfg   Config // where NATS is
	once  bool
	every time.Duration
	rows  int
	std   streams
	draws bool // the terminal is one that can be drawn on

	link link
}

// drawn reports whether a terminal of this environment understands what a screen is drawn
// with. TERM=dumb is how editors and consoles say that theirs does not; none, outside of
// Windows, means that nobody knows.
func drawn(env config.Env) bool {
	kind := env.Get("TERM")
	return kind != "dumb" && (kind != "" || runtime.GOOS == "windows")
}

// look is what is shown: one moment, and how it differs from the one before.
type look struct {
	*ask.Snapshot
	ask.Figures
	clients []ask.Connection // in the order asked for
}

func (t *top) run(ctx context.Context, words []string) error {
	switch {
	case len(words) > 0:
		return fmt.Errorf("top takes no arguments, only settings: %q", words)
	case t.every < time.Second || t.every > time.Minute:
		return fmt.Errorf("interval: %s is not between 1s and 1m", t.every)
	case t.rows < 0 || t.rows > 100:
		return fmt.Errorf("clients: %d is not between 0 and 100", t.rows)
	}
	if _, err := t.link.reach(ctx, t.cfg); err != nil {
		return cmp.Or(interrupted(ctx), err)
	}
	defer t.link.close()
	if out, ok := t.std.out.(*os.File); !t.once && t.draws && ok && term.IsTerminal(int(out.Fd())) {
		return t.watch(ctx, t.std.in, out)
	}
	before := t.look(ctx, nil, "-queued")
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Second):
	}
	now := t.look(ctx, before, "-queued")
	if cause := interrupted(ctx); cause != nil {
		return cause
	}
	if now.nobody() {
		return errors.Join(errNobody, sentence(now.Silent))
	}
	_, err := io.WriteString(t.std.out, now.text(0, plain))
	return err
}

// sentence is the first of who did not answer; nil: all did.
func sentence(silent []string) error {
	if len(silent) == 0 {
		return nil
	}
	return errors.New(silent[0])
}

// errNobody: NATS answers, and nobody of Herald does.
var errNobody = errors.New("no service of Herald answers over this NATS: none runs, or this user may not ask them")

// look asks everybody.
func (t *top) look(ctx context.Context, before *look, order string) *look {
	asks, err := t.link.reach(ctx, t.cfg)
	if err != nil {
		return &look{Snapshot: &ask.Snapshot{Time: time.Now(), Silent: []string{err.Error()}}}
	}
	l := &look{Snapshot: ask.Take(ctx, asks)}
	if before != nil {
		l.Figures = l.Since(before.Snapshot)
	} else {
		l.Figures = l.Since(nil)
	}
	if t.rows > 0 {
		l.clients = t.clients(ctx, asks, order, l)
	}
	return l
}

// nobody reports whether no service has answered.
func (l *look) nobody() bool { return len(l.Gateways)+len(l.Ingests)+len(l.Loggers) == 0 }

// clients are the first of all gateways in an order.
func (t *top) clients(ctx context.Context, asks *ask.Client, order string, l *look) (rows []ask.Connection) {
	o, err := ask.ParseOrder(order, ask.ConnectionOrders...)
	if err != nil {
		panic("herald: top asks for an order that there is not: " + err.Error())
	}
	answers, silent, err := ask.All[ask.ConnectionsPage](ctx, asks, ask.Gateway, ask.Connections,
		ask.ConnectionsQuestion{Sort: order, Limit: t.rows})
	if err != nil {
		silent = append(silent, "connections: "+err.Error())
	}
	l.Silent = append(l.Silent, silent...)
	for _, a := range answers {
		rows = append(rows, a.Answer.Rows...)
	}
	slices.SortFunc(rows, func(a, b ask.Connection) int {
		return cmp.Or(o.Compare(a.Key(o.By), b.Key(o.By)), cmp.Compare(a.ID, b.ID))
	})
	return rows[:min(len(rows), t.rows)]
}

// watch shows one look after the other until the user leaves, or ctx ends.
func (t *top) watch(ctx context.Context, in io.Reader, out io.Writer, more ...tea.ProgramOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what is asked or waited for
	options := append([]tea.ProgramOption{tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)}, more...)
	_, err := tea.NewProgram(&screen{top: t, ctx: ctx, order: "-queued"}, options...).Run()
	if ctx.Err() != nil || errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// screen is what the terminal shows. Its methods are called one at a time.
type screen struct {
	*top
	ctx    context.Context
	now    *look // nil: nobody has answered yet
	order  string
	paused bool
	width  int
	height int
}

// Messages of the screen.
type (
	looked *look
	due    struct{}
)

// Init makes *screen a tea.Model, with Update and View.
func (s *screen) Init() tea.Cmd { return s.lookCmd() }

// lookCmd asks everybody; the answers come as looked.
func (s *screen) lookCmd() tea.Cmd {
	before, order := s.now, s.order
	return func() tea.Msg { return looked(s.look(s.ctx, before, order)) }
}

// wait sends due after the interval. One look or one wait is under way at any time. tea.Tick would outlive the program.
func (s *screen) wait() tea.Cmd {
	return func() tea.Msg {
		select {
		case <-time.After(s.every):
		case <-s.ctx.Done():
		}
		return due{}
	}
}

// Update handles one message of the terminal library.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case looked:
		s.now = msg
		return s, s.wait()
	case due:
		if s.paused {
			return s, s.wait()
		}
		return s, s.lookCmd()
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return s, tea.Quit
		case "p", "space":
			s.paused = !s.paused
		case "s":
			s.order = map[string]string{"-queued": "-sent", "-sent": "-queued"}[s.order]
		}
	}
	return s, nil
}

// View draws the screen.
func (s *screen) View() tea.View {
	text := "Asking the services…\n"
	if s.now != nil {
		text = s.now.text(s.width, styled)
	}
	v := tea.NewView(fitted(text, s.height-1) + s.keys())
	v.AltScreen, v.WindowTitle = true, "herald top"
	return v
}

// keys is the last line: what can be pressed, and how it is now.
func (s *screen) keys() string {
	state := "every " + s.every.String()
	if s.paused {
		state = "paused"
	}
	by := strings.TrimPrefix(s.order, "-")
	line := fmt.Sprintf("q quit   p pause (%s)   s sort (by %s)", state, by)
	for _, shorter := range []string{fmt.Sprintf("%s, by %s: q p s", state, by), state} {
		if s.width > 0 && len(line) > s.width {
			line = shorter
		}
	}
	if s.width > 0 {
		line = ansi.Truncate(line, s.width, "…")
	}
	return styled.faint(line)
}
