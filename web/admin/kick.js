// How a connection is closed by a person.

import { html } from "./component.js";

/** Close codes (proto/closecode.go): what a client does with each is in its range. */
const CODES = [
  [4501, "Stay away", "Herald’s clients do not come back by themselves."],
  [4006, "Come back", "Clients connect again, and go on where they were."],
];

export const Reasons = () => html`<fieldset class="options"><legend>And then</legend>
  ${CODES.map(([code, name, what], i) =>
    html`<label><input type="radio" name="code" value=${code} defaultChecked=${i === 0} />
    <span><b>${name}</b> <span class="code">${code}</span><br /><span class="hint">${what}</span></span></label>`)}
  </fieldset>
  <div class="field"><label for="kick-reason">Reason, which the client sees (optional)</label>
    <input id="kick-reason" name="reason" maxlength="200" autocomplete="off" /></div>`;
