/** Runs sections one after the other, and writes the report to the terminal, as JSON and as HTML. */
import { writeFileSync } from 'node:fs';
import { reportPage } from './html.ts';
import { reportMarkdown } from './markdown.ts';
import type { Section } from './report.ts';
import { type Setting, describeMachine } from './setting.ts';
import { headText, sectionText } from './text.ts';
import { compileTools } from './tools.ts';

type SectionRunner = (setting: Setting) => Promise<Section>;

/** Sets exit status 1 when a target was missed. */
export async function runReport(
  title: string,
  setting: Setting,
  runners: readonly { id: string; run: SectionRunner }[],
): Promise<void> {
  compileTools();
  const head = {
    title,
    taken: new Date().toISOString(),
    machine: describeMachine(),
    options: {
      rounds: String(setting.rounds),
      seconds: String(setting.seconds),
      placement: setting.placement,
      files: setting.files,
    },
  };
  process.stdout.write(`${headText(head)}\n`);
  const sections: Section[] = [];
  const save = (): void => {
    const report = { ...head, sections };
    if (setting.json !== undefined) writeFileSync(setting.json, `${JSON.stringify(report, null, 1)}\n`);
    if (setting.markdown !== undefined) writeFileSync(setting.markdown, reportMarkdown(report));
    if (setting.html !== undefined) writeFileSync(setting.html, reportPage(report));
  };
  for (const { id, run } of runners) {
    if (!setting.wants(id)) continue;
    const section = await run(setting);
    setting.progress('');
    process.stdout.write(`${sectionText(section)}\n`);
    sections.push(section);
    // After every section, so that an interrupted run leaves its results.
    save();
  }
  if (sections.some(({ verdicts }) => verdicts.some(({ passed }) => !passed))) process.exitCode = 1;
}
