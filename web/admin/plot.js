// What the charts draw, as far as it needs no browser.

/** Steps between the lines of an axis: 1, 2 and 5 of every power of ten, from the least that its labels can tell apart. */
export const steps = (least) => Array.from({ length: 18 }, (_, power) => [1, 2, 5].map((n) => Number(`${n}e${power}`)))
  .flat().map((n) => (least < 1 ? n / Math.round(1 / least) : n * least));

/** Steps of an axis of seconds; long: its labels have no seconds. */
export const clockSteps = (long) => [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].filter((s) => !long || s >= 60);

/** Labels of neighbours that would read the same are written once. @param {string[]} texts */
export const labels = (texts) => texts.map((text, i) => (i > 0 && text === texts[i - 1] ? "" : text));

/** The places of values that no line touches. @param {(number | null)[]} values */
export const lone = (values) => values.flatMap((v, i) =>
  (known(v) && !known(values[i - 1]) && !known(values[i + 1]) ? [i] : []));

const known = (v) => v !== null && v !== undefined;
