// One small chart by uPlot, which is loaded when the first chart is shown.

import { component, createRef, html, signal } from "./component.js";
import { zone } from "./view.js";
import * as format from "./format.js";
import { clockSteps, labels, lone, steps } from "./plot.js";

/** @type {Promise<any> | undefined} */
let library;

/** uPlot is a script with one global, smaller than its module. */
function uPlot() {
  library ??= new Promise((done, fail) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("../third_party/uplot/uPlot.min.css", import.meta.url).href;
    const script = document.createElement("script");
    script.src = new URL("../third_party/uplot/uPlot.iife.min.js", import.meta.url).href;
    script.onload = () => done(/** @type {any} */ (globalThis).uPlot);
    script.onerror = () => {
      library = undefined;
      fail(new Error("uPlot did not load"));
    };
    document.head.append(style, script);
  });
  return library;
}

const HEIGHT = 128;
/** Steps between the lines of a chart, by how its figures are shown. */
const STEPS = new Map([[format.bytes, Array.from({ length: 45 }, (_, i) => 2 ** i)], [format.number, steps(1)],
  [format.rate, steps(0.01)], [format.millis, steps(0.1)], [format.duration, steps(0.001)]]);
const dark = matchMedia("(prefers-color-scheme: dark)");

/**
 * @type {any} {{title: string, times: number[], lines: {name: string, values: (number | null)[], tone: string}[], show(n: number): string}}
 *   times in seconds; tone names a colour of tokens.css
 */
export const Chart = component((self, first) => {
  const ref = createRef();
  const at = signal(undefined); // index under the pointer
  let chart;
  let props = first;
  let shape = "";
  let gone = false;
  /** Whether the times are labelled without their seconds. */
  const long = () => props.times.at(-1) - props.times[0] > 240;

  const draw = async () => {
    let Plot;
    try {
      Plot = await uPlot();
    } catch {
      return; // the figure beside the title still shows the newest value
    }
    if (gone || !ref.current) return;
    const data = [props.times, ...props.lines.map(({ values }) => values)];
    const next = `${props.lines.length} ${dark.matches} ${zone.value}`;
    if (chart && next === shape) {
      chart.setData(data);
      return;
    }
    shape = next;
    chart?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const font = `11px ${style.getPropertyValue("--sans")}`;
    const axis = { stroke: colour("muted"), font, ticks: { show: false }, grid: { stroke: colour("line"), width: 1 } };
    chart = new Plot({
      width: ref.current.clientWidth,
      height: HEIGHT,
      padding: [8, 28, 0, 0],
      legend: { show: false },
      tzDate: zone.value === "utc" ? (seconds) => Plot.tzDate(new Date(seconds * 1000), "Etc/UTC") : undefined,
      cursor: { y: false, sync: { key: "herald" }, points: { size: 6 }, drag: { x: false, y: false } },
      hooks: { setCursor: [(plot) => { at.value = plot.cursor.idx ?? undefined; }] },
      scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1e-9) * 1.1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 22, space: 64, incrs: () => clockSteps(long()),
          values: (_, splits) => labels(splits.map((s) =>
            format.time(s * 1000, zone.value).slice(-8, long() ? -3 : undefined))) },
        { ...axis, size: 56, space: 32, incrs: STEPS.get(props.show),
          values: (_, splits) => labels(splits.map((n) => props.show(n))) },
      ],
      series: [{}, ...props.lines.map(({ tone }, i) => ({
        stroke: colour(tone),
        width: 1.5,
        fill: i === 0 && props.lines.length === 1 ? `color-mix(in srgb, ${colour(tone)} 12%, transparent)` : undefined,
        points: { show: true, size: 5, fill: colour(tone), filter: (plot, series) => lone(plot.data[series]) },
        spanGaps: false,
      }))],
    }, data, ref.current);
  };

  const sizes = new ResizeObserver(() => chart?.setSize({ width: ref.current.clientWidth, height: HEIGHT }));
  self.mounted(() => {
    sizes.observe(ref.current);
    dark.addEventListener("change", draw);
  });
  self.cleanup(() => {
    gone = true;
    sizes.disconnect();
    dark.removeEventListener("change", draw);
    chart?.destroy();
  });

  return (now) => {
    props = now;
    zone.value; // another zone draws again
    queueMicrotask(draw);
    const last = now.times.length - 1;
    const i = at.value !== undefined && at.value <= last ? at.value : last;
    const values = now.lines.map(({ name, values, tone }) => ({ name, tone, value: values[i] }));
    const summary = now.lines.map(({ name, values }) => {
      const known = values.filter((v) => v !== null);
      return `${name ? `${name} ` : ""}now ${now.show(values.at(-1))}, at most ${known.length > 0 ? now.show(Math.max(...known))
        : "–"}`;
    }).join("; ");
    return html`<figure class="chart">
      <figcaption><span>${now.title}</span>${values.map(({ name, value, tone }) =>
        html`<span class="value"><i class=${tone} aria-hidden="true">
        </i>${name ? html`<small>${name}</small> ` : ""}${now.show(value)}</span>`)}
        ${at.value !== undefined
          && html`<small class="at">${format.time(now.times[i] * 1000, zone.value)}</small>`}</figcaption>
      <div class="plot" ref=${ref} role="img" aria-label=${`${now.title}: ${summary}`}></div>
    </figure>`;
  };
});
