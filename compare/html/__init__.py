"""HTML pages. Each page is one file that loads nothing else.

page plots mathml judgement    the frame of a page, drawings, formulas, and the text of a report
report checked                 the pages of `backproof verify` and `backproof check`
lesson lesson_steps lesson_why lesson_pictures playground    the page of `backproof lesson`
museum                         the page of `backproof museum`
"""
