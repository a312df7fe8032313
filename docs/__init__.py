"""The site: pages made from the committed notebooks, figures and tables. Nothing is computed anew."""
