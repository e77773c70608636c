package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/herald-push/herald/services/logger/internal/store"
)

// texts are messages in many scripts and notations, by the sequence under which TestSearchSyntax stores them.
var texts = []string{
	1:  `The quick brown fox`,
	2:  `the QUICK "brown" fox-trot`,
	3:  `quick, brown`,
	4:  `brown quick`,
	5:  `{"text":"The qu\u0069ck br\"own","path":"C:\\quick\\fox.txt"}`,
	6:  `naïve café Straße ÅNGSTRÖM`,
	7:  `naive cafe strasse`,
	8:  `Δοκιμή ΣΊΣΥΦΟΣ привет МИР`,
	9:  `東京都へ行く`,
	10: `京都`,
	11: `こんにちは世界`,
	12: `안녕하세요 세계`,
	13: `สวัสดีชาวโลก`,
	14: `مرحبا بالعالم שלום`,
	15: `done ✅ 🎉🎉 rocket🚀launch`,
	16: `{"emoji":"\ud83d\ude80 lift\ud83c\udf89off"}`,
	17: `e = mc2, x^2 + y_2, 3.14, 10%, #42, @user, a/b`,
	18: `AND OR NOT NEAR AND(OR) "phrase" -minus +plus ^start col:val {set} [a] *star*`,
	19: `tab	separated
next line`,
	20: "cafe\u0301 combining",
	21: strings.Repeat("long", 60) + "tail",
	22: strings.Repeat("long", 60) + "other",
	23: `user_id=17 user-id:17 userId17`,
	24: `'); DROP TABLE messages; --`,
	25: `½ ٣ Ⅷ ① ²`,
	26: `1e6 0x1F 192.0.2.1 2026-11-22T12:00:00Z 550e8400-e29b-41d4-a716-446655440000`,
}

// What a person types is words, never a language: each case says which of texts it finds.
func TestSearchSyntax(t *testing.T) {
	l := newLog(t)
	for seq, text := range texts {
		if text != "" {
			l.add(entry(epochs[1], uint64(seq), "texts", text))
		}
	}
	for _, c := range []struct{ q, want string }{
		// Words: every one must be there, in any order and any case.
		{"quick", "1 2 3 4 5"}, {"QUICK Brown", "1 2 3 4"}, {"brown fox", "1 2"}, {"quic", ""},
		{"fox fox fox", "1 2 5"},
		{"  quick \t fox\n", "1 2 5"}, {"the", "1 2 5"}, {"quick absent", ""},
		// Prefixes.
		{"qui*", "1 2 3 4 5"}, {"qui* fo*", "1 2 5"}, {"*", "-"}, {"qui**", "1 2 3 4 5"}, {"*uick", ""}, {"q*k", ""},
		{"fox-t*", "2 5"},
		{"qui* fox-trot", "2"},
		// Quotes, operators and brackets only separate.
		{`"quick brown"`, "1 2 3 4"}, {`"quick`, "1 2 3 4 5"}, {"'quick'", "1 2 3 4 5"}, {"“quick”", "1 2 3 4 5"},
		{"(quick)", "1 2 3 4 5"},
		{"quick OR brown", ""}, {"quick NOT fox", ""}, {"AND", "18"}, {"and or not near", "18"}, {"NEAR(and or)", "18"},
		{"-fox", "1 2 5"},
		{"+plus", "18"}, {"^start", "18"}, {"col:val", "18"}, {"col : val", "18"}, {"texts:quick", ""}, {"{set}", "18"},
		{"[a]", "17 18"},
		{"star*", "18"}, {"&& quick ||", "1 2 3 4 5"}, {"\\quick", "1 2 3 4 5"}, {"--", "-"},
		{"'); DROP TABLE messages; --", "24"}, {"%", "-"},
		// One word of a person that is several here: together and in order.
		{"fox-trot", "2"}, {"trot-fox", ""}, {"quick-brown", "1 2 3"}, {"user_id", "23"}, {"user-id", "23"},
		{"id_user", ""},
		{"userid17", "23"},
		{"x^2", "17"}, {"3.14", "17"}, {"14.3", ""}, {"#42", "17"}, {"@user", "17 23"}, {"a/b", "17"}, {"b/a", ""},
		{"mc2,", "17"},
		{"192.0.2.1", "26"}, {"192.0.2", "26"}, {"0.2.192", ""}, {"2026-11-22", ""}, {"2026-11-22*", "26"},
		{"2026-11-22T12", "26"},
		{"550e8400-e29b-41d4-a716-446655440000", "26"}, {"550e8400-e29b-*", "26"}, {"0x1f", "26"},
		// JSON's escapes are what they spell, and no words.
		{"br", "5"}, {"own", "5"}, {"u0069ck", ""}, {"quick fox txt", "5"}, {`C:\quick`, "5"}, {"text path", "5"},
		// Letters with marks are themselves, in any case.
		{"café", "6"}, {"CAFÉ", "6"}, {"cafe", "7"}, {"naïve", "6"}, {"straße", "6"}, {"strasse", "7"},
		{"ångström", "6"},
		{"cafe\u0301", "20"},
		{"δοκιμή", "8"}, {"ПРИВЕТ мир", "8"}, {"σίσυφος", ""}, {"σίσυφοσ", "8"},
		// Scripts without spaces: each character is a word, so parts are found, in order.
		{"東京", "9"}, {"京都", "9 10"}, {"都京", ""}, {"東 都", "9"}, {"世界", "11"}, {"こんにちは", "11"}, {"行く", "9"},
		{"สวัสดี", "13"},
		{"東*", "9"},
		// Scripts with spaces.
		{"안녕하세요", "12"}, {"안녕", ""}, {"안녕*", "12"}, {"مرحبا", "14"}, {"שלום", "14"},
		// Emoji are no words; they separate.
		{"🎉", "-"}, {"rocket🚀launch", "15"}, {"rocket", "15"}, {"launch", "15"}, {"rocketlaunch", ""}, {"✅ done", "15"},
		{"lift", "16"}, {"off", "16"},
		{"lift🎉off", "16"}, {"👩‍👩‍👧", "-"},
		// White space of every kind, and digits of every kind.
		{"separated next", "19"}, {"tab\u00a0line", "19"}, {"½", "25"}, {"٣", "25"}, {"ⅷ", "25"}, {"1", "26"},
		// Longer than the index keeps: the rows tell them apart.
		{strings.Repeat("long", 60) + "tail", "21"}, {strings.Repeat("LONG", 60) + "other", "22"},
		{strings.Repeat("long", 60) + "*", "21 22"},
		{strings.Repeat("long", 60), ""}, {strings.Repeat("long", 20) + "*", "21 22"},
		{strings.Repeat("long", 20) + "x*", ""},
	} {
		f := store.Filter{Search: c.q, Asc: true}
		if c.want == "-" {
			if _, err := l.Query(t.Context(), f); !errors.Is(err, store.ErrSearch) ||
				!strings.Contains(err.Error(), "has no word") {
				t.Errorf("%.60q: got %v, want that it has no word", c.q, err)
			}
			continue
		}
		if got := numbers(l.seqs(f)); got != c.want {
			t.Errorf("%.60q finds %q, want %q", c.q, got, c.want)
		}
	}
}

// The most that a search may be is answered, and one more is refused with the number.
func TestSearchAtItsLimits(t *testing.T) {
	l := newLog(t)
	var words []string
	for i := range 17 {
		words = append(words, fmt.Sprintf("w%d", i))
	}
	l.add(entry(epochs[1], 1, "a", strings.Join(words, " ")))
	for _, c := range []struct {
		q, fault string
	}{
		{strings.Join(words[:16], " "), ""},
		{strings.Join(words, " "), "17 words, at most 16"},
		{strings.Join(words[:16], "-"), ""},
		{strings.Join(words, "-"), "17 words, at most 16"},
		{"w1" + strings.Repeat(" ", store.MaxSearchBytes-2), ""},
		{"w1" + strings.Repeat(" ", store.MaxSearchBytes-1), "513 bytes, at most 512"},
		{"w1 \x80", "not UTF-8"},
		{"w1 \xed\xa0\x80", "not UTF-8"}, // half a surrogate pair
	} {
		got, err := l.Query(t.Context(), store.Filter{Search: c.q})
		switch {
		case c.fault == "" && (err != nil || len(got.Rows) != 1):
			t.Errorf("%.40q: got %d rows, %v, want 1", c.q, len(got.Rows), err)
		case c.fault != "" && (!errors.Is(err, store.ErrSearch) || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%.40q: got %v, want %q", c.q, err, c.fault)
		}
	}
}

// A search for a message's own words finds it, whatever the message is, as long as it has some and is no JSON text.
func FuzzOwnWords(f *testing.F) {
	for _, text := range texts {
		f.Add(text)
	}
	f.Add("İstanbul ﬁsh ǅ ẞ")
	l := newLog(f)
	seq := uint64(0)
	f.Fuzz(func(t *testing.T, text string) {
		if text == "" || !utf8.ValidString(text) || strings.ContainsAny(text[:1], `{["`) ||
			strings.ContainsRune(text, 0) {
			return
		}
		var words []string
		for _, word := range strings.FieldsFunc(text,
			func(r rune) bool { return !unicode.In(r, unicode.Letter, unicode.Number, unicode.Mark) }) {
			if len(words) < 4 && len(word) < 100 {
				words = append(words, word)
			}
		}
		search := store.Filter{Search: strings.Join(words, " "), Limit: 1}
		if len(words) == 0 || search.Check() != nil { // such as 17 characters of a script without spaces
			return
		}
		seq++
		row := entry(epochs[1], seq, "a", text)
		if _, err := l.Append(t.Context(), []store.Row{row}); err != nil {
			t.Fatal(err)
		}
		page, err := l.Query(t.Context(), search)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(page.Rows, func(r store.Row) bool { return r.Seq == row.Seq }) {
			t.Errorf("%q is not found by %q", text, search.Search)
		}
	})
}
