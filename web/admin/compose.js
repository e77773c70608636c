// The body of POST /v1/messages from what a person typed.

import { parse } from "./exact.js";

/** The message as JSON. Data that is JSON goes as it stands, so that its numbers keep their digits. */
export function body({ channel, event, data, ttl, id, ephemeral }) {
  const members = [["channel", JSON.stringify(channel)], ["data", json(data)]];
  if (event) members.push(["event", JSON.stringify(event)]);
  if (ephemeral) members.push(["ephemeral", "true"]);
  // What is no number goes as text: the server says then what it wants.
  if (ttl) members.push(["ttl", /^[0-9]+(\.[0-9]+)?$/.test(ttl) ? ttl : JSON.stringify(ttl)]);
  if (id) members.push(["id", JSON.stringify(id)]);
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
}

function json(text) {
  try {
    parse(text);
    return text.trim();
  } catch {
    return JSON.stringify(text);
  }
}
