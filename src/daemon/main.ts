/** The program's entry: what the command line asks for, and exit codes. Started by bin/virtlockd through start.cjs. */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DocumentError, parseDocument, parseJson } from '../restart/parse.ts';
import { CHECK_BANNER, CHECK_FAILED } from '../restart/successor.ts';
import { ConfigError, type DaemonConfig, DEFAULT_CONFIG, loadConfig } from './config.ts';
import { EXIT, StartupError } from './exit.ts';
import { parseOptions, type RunOptions, usageText, versionText } from './options.ts';
import { type DaemonPaths, daemonPaths } from './paths.ts';
import { serve } from './serve.ts';

/** The path we were started by, unresolved, and our arguments: see bin/virtlockd. */
const [, , program = 'virtlockd', ...args] = process.argv;

function main(): void {
  const parsed = parseOptions(args);
  switch (parsed.kind) {
    case 'help':
      process.stderr.write(usageText(program, isPrivileged()));
      process.exit(EXIT.ok);
      break;
    case 'version':
      process.stdout.write(versionText(program, configuredVersion()));
      process.exit(EXIT.ok);
      break;
    case 'usage':
      process.stderr.write(`${program}: ${parsed.text}\n${usageText(program, isPrivileged())}`);
      process.exit(EXIT.options);
      break;
    case 'invalid':
      process.stderr.write(`${parsed.text}\n`);
      process.exit(EXIT.options);
      break;
    case 'run':
      run(parsed.options);
      break;
  }
}

function isPrivileged(): boolean {
  return process.geteuid?.() === 0;
}

function pathsFor(root: string | undefined): DaemonPaths {
  return daemonPaths({
    privileged: isPrivileged(),
    environment: process.env,
    homeDirectory: os.homedir(),
    root: root === undefined ? undefined : path.resolve(root),
  });
}

/** The version to claim, where a broken configuration is no reason not to answer. */
function configuredVersion(): string {
  try {
    return loadConfig(pathsFor(undefined).config, false).libvirtVersion;
  } catch {
    return DEFAULT_CONFIG.libvirtVersion;
  }
}

function run(options: RunOptions): void {
  if (options.checkState !== undefined) {
    process.exit(checkState(options.checkState));
  }
  const paths = pathsFor(options.root);
  try {
    const configFile = options.config ?? paths.config;
    const config: DaemonConfig = loadConfig(configFile, options.config !== undefined);
    serve({ program: path.resolve(program), argv0: program, args, options, paths, config, configFile });
  } catch (error) {
    if (error instanceof ConfigError) fail(EXIT.config, error.message);
    if (error instanceof StartupError) fail(error.exitCode, error.message);
    throw error;
  }
}

function fail(exitCode: number, message: string): never {
  process.stderr.write(`${program}: error: ${message}\n`);
  process.exit(exitCode);
}

/** Reads a state document as a successor would, and says what it thinks of it: see restart/successor.ts. */
function checkState(file: string): number {
  try {
    parseDocument(parseJson(readFileSync(file)));
    process.stdout.write(`${CHECK_BANNER}\n`);
    return EXIT.ok;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stdout.write(`${CHECK_BANNER}\n${error instanceof DocumentError ? `${file}: ` : ''}${reason}\n`);
    return CHECK_FAILED;
  }
}

main();
