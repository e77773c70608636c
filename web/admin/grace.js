// How long what is replaced goes on working, so that it can be exchanged without an outage.

import { html } from "./component.js";
import { Field } from "./view.js";

const TIMES = [["0", "no longer"], ["3600", "1 hour more"], ["86400", "1 day more"], ["604800", "7 days more"]];

export const Grace = ({ id, what }) => html`<${Field} label=${what} id=${id}><select id=${id} name="grace">
  ${TIMES.map(([value, text]) => html`<option value=${value} selected=${value === "86400"}>${text}</option>`)}</select>
    </${Field}>`;
