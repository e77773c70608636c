// Components that follow signals: what a component reads while it renders, it renders again for.

import { Component, h, render } from "../third_party/preact/preact.mjs";
import htm from "../third_party/htm/htm.module.js";
import { effect } from "../third_party/signals-core/signals-core.module.js";

export { Fragment, createRef } from "../third_party/preact/preact.mjs";
export { batch, computed, effect, signal, untracked } from "../third_party/signals-core/signals-core.module.js";
export { render };

export const html = htm.bind(h);

/**
 * A component. setup runs once when it comes into the page, with the component itself, and returns what renders it: a
 * function of the current properties. State is signals that setup makes. self.cleanup(f) has f run when the component
 * leaves the page; self.follow(f) is an effect that ends then; self.mounted(f) runs f once it is in the page.
 * self.keepFocus(ref, heir) gives the focus to the element that heir returns, when the component takes away the one that
 * has it, below ref: a browser would begin again at the top of the page.
 *
 * @param {(self: any, props: any) => (props: any) => any} setup
 * @returns {any}
 */
export function component(setup) {
  return class extends Component {
    constructor(props) {
      super(props);
      this.cleanups = [];
      this.mounts = [];
      this.view = setup(this, props);
    }

    cleanup(f) { this.cleanups.push(f); }

    follow(f) { this.cleanup(effect(f)); }

    mounted(f) { this.mounts.push(f); }

    keepFocus(ref, heir) { this.kept = { ref, heir }; }

    getSnapshotBeforeUpdate() { return this.kept?.ref.current?.contains(document.activeElement) ?? false; }

    componentDidUpdate(_props, _state, had) {
      if (had && document.activeElement === document.body) this.kept.heir()?.focus();
    }

    componentDidMount() { for (const f of this.mounts) f(); }

    componentWillUnmount() {
      this.stop?.();
      // The heading stays, whatever takes the place of a list.
      if (this.kept?.ref.current?.contains(document.activeElement)) queueMicrotask(() => {
        if (document.activeElement === document.body) document.querySelector("h1")?.focus();
      });
      for (const f of this.cleanups) f();
    }

    render(props) {
      this.stop?.();
      let out;
      let rendering = true;
      // The first run renders, and so collects what was read; the next one only asks to be rendered again.
      this.stop = effect(() => {
        if (rendering) out = this.view(props);
        else this.setState({});
      });
      rendering = false;
      return out;
    }
  };
}

/** Shows what broke below it instead of an empty page. */
export class Boundary extends Component {
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  componentDidUpdate(before) {
    if (this.state?.error && before.page !== this.props.page) this.setState({ error: undefined });
  }

  render({ children }) {
    const { error } = this.state ?? {};
    if (!error) return children;
    return html`<div class="problem" role="alert">
      <p><b>This page of the console broke.</b></p>
      <p>${String(error)}</p>
      <p>Reload the page. If it happens again, report it with this text; Herald itself is not affected.</p>
    </div>`;
  }
}
