"""HOW it is trained. A file imports only files that come before it in this reading order:

keyed, problems, document, precision, sections, presets, settings, coherence, experiment, identity,
tokens, tokenise, prepare, stages, plan, batch, weighting, model, optimizer, engine, joint_step,
evaluate, checkpoint, weights, journal, training, loop, recorder, summary, store, tracking, charts,
access, cluster, launch, run, predict, records, served, export, report, check, doctor, view, verb,
cli, submit.
"""
