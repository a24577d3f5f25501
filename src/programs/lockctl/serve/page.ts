/** The page: one document that loads nothing else. */
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeMarkup(text: string): string {
  return text.replaceAll(/[&<>"]/g, (character) => ENTITIES[character] ?? '');
}

/**
 * @param nonce the one in the page's Content-Security-Policy
 * @param host the name of the daemon's host: an operator has one page open for each
 */
export function page(nonce: string, host: string): string {
  const title = escapeMarkup(`virtlockd on ${host}`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${STYLE}</style>
</head>
<body data-title="${title}">
<header><h1>${title}</h1>
<span id="live" class="bad" role="status" aria-live="polite">not connected</span><span id="read"></span>
<input id="search" type="search" placeholder="search" aria-label="search all tables" autocomplete="off" autofocus></header>
<div id="failure" role="alert" hidden></div>
<nav id="sections" aria-label="sections"></nav>
<dl id="status"></dl>
<p id="verdict" role="status" aria-live="polite" hidden></p>
<div id="findings"></div>
<main id="tables"></main>
<script nonce="${nonce}">${SCRIPT}</script>
</body>
</html>
`;
}
