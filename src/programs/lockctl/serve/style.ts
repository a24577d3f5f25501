/** How the page looks. Every text has a contrast of at least 4.5:1 with what is behind it; a test measures that in both modes. */

export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #ffffff;
  --text: #1b1f24;
  --soft: #57606a;
  --line: #d0d7de;
  --good: #116329;
  --bad: #a40e26;
  --warn: #7d4e00;
  --raised: #f6f8fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1117;
    --text: #e6edf3;
    --soft: #9aa4af;
    --line: #30363d;
    --good: #3fb950;
    --bad: #ff7b72;
    --warn: #d9a32e;
    --raised: #161b22;
  }
}
* { box-sizing: border-box; }
body { background: var(--ground); color: var(--text); font: 14px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 16px 24px; }
header { align-items: baseline; display: flex; flex-wrap: wrap; gap: 8px 20px; }
h1 { font-size: 20px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 28px 0 2px; }
h2 small, caption, .none, dt, #read { color: var(--soft); font-size: 13px; font-weight: normal; }
#live { font-weight: 600; }
#live::before { content: "\\25cf\\a0"; }
#live.good { color: var(--good); }
#live.bad { color: var(--bad); }
#search { background: var(--ground); border: 1px solid var(--soft); border-radius: 4px; color: inherit; font: inherit; margin-left: auto; padding: 4px 8px; width: min(340px, 100%); }
#search::placeholder { color: var(--soft); opacity: 1; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 12px 0 0; }
a { color: inherit; text-underline-offset: 3px; }
dl { display: flex; flex-wrap: wrap; gap: 4px 24px; margin: 12px 0; }
dl div { align-items: baseline; display: flex; gap: 6px; }
dd { margin: 0; }
dd, td, tbody th { font-variant-numeric: tabular-nums; }
.finding, #failure { border-left: 4px solid var(--line); margin: 10px 0; padding: 6px 12px; white-space: pre-line; }
#failure { background: var(--raised); border-color: var(--bad); color: var(--bad); font-weight: 600; }
#verdict { font-weight: 600; margin: 12px 0; }
#verdict.ok { color: var(--good); }
#verdict.warning { color: var(--warn); }
#verdict.error { color: var(--bad); }
.finding { overflow-wrap: anywhere; }
.finding.warning { border-color: var(--warn); }
.finding.error { border-color: var(--bad); }
.finding ul { margin: 2px 0; padding-left: 20px; }
.finding p, .finding pre { margin: 2px 0; }
.finding pre { overflow-x: auto; }
body.stale #tables, body.stale #status { border-left: 4px solid var(--bad); padding-left: 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { padding: 0 0 4px; text-align: left; }
th { text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: 4px 14px 4px 0; unicode-bidi: isolate; vertical-align: top; white-space: nowrap; }
thead button { all: unset; color: var(--soft); cursor: pointer; font-weight: 600; }
thead button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
[aria-sort=ascending] button::after { content: "\\a0\\2191"; }
[aria-sort=descending] button::after { content: "\\a0\\2193"; }
td, tbody th { font-family: ui-monospace, monospace; font-size: 13px; }
tbody th { font-weight: 600; }
.long { min-width: 16em; overflow-wrap: anywhere; white-space: pre-wrap; }
tr.warn > * { color: var(--warn); }
@media (max-width: 720px) {
  body { padding: 12px; }
  #search { margin-left: 0; width: 100%; }
  table, tbody, tbody tr, caption { display: block; }
  thead tr { display: flex; flex-wrap: wrap; gap: 0 14px; }
  thead th { border: 0; padding: 2px 0; }
  tbody tr { border-bottom: 1px solid var(--line); padding: 8px 0; }
  tbody tr > * { border: 0; display: flex; gap: 8px; overflow-wrap: anywhere; padding: 0; white-space: pre-wrap; }
  tbody tr > *::before { color: var(--soft); content: attr(data-label); flex: 0 0 7em; font-family: system-ui, sans-serif; font-weight: normal; }
  tbody tr > :empty { display: none; }
  .long { min-width: 0; }
}
`;
