export * from '../../src/lab/process.ts';
